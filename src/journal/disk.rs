//! The disk: one directory of files. Tests put one in its place that loses what was not synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use rustix::process::geteuid;

/// A directory. Names are those of files in it.
pub(crate) trait Disk: Send + Sync {
    /// The names of all files, in order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there, for reading, and for writing unless the directory is only read.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Makes an empty file, in place of one that is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, also over another one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes sure that the names survive a loss of power.
    fn sync_names(&self) -> io::Result<()>;

    /// The directory of this name in this one, which is made if it is not there. Files go from one to the other by
    /// [`Disk::rename`], with `/` between the names.
    fn subdirectory(&self, name: &str) -> io::Result<Box<dyn Disk>>;

    /// Removes a directory in this one, which has no files.
    fn remove_subdirectory(&self, name: &str) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync {
    /// Writes all of `bytes`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads up to the end of the file, and returns how much that was.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Makes room for so many bytes from the beginning on, if the disk can do that ahead of time.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// How long the file is.
    fn length(&self) -> io::Result<u64>;

    /// Makes sure that the contents survive a loss of power. After an error, nothing is known of what was written since
    /// the last call: Linux reports it once, and forgets what it could not write. See Rebello et al., "Can
    /// Applications Recover from fsync Failures?", 2020.
    fn sync(&self) -> io::Result<()>;

    /// Reads from the disk itself next time: after an error of [`DiskFile::sync`] in an earlier process, memory may
    /// have what the disk does not.
    fn forget_cache(&self);
}

/// A directory of the system.
pub(crate) struct Directory {
    path: PathBuf,
    is_only_read: bool,
    /// Whom files belong to that are made in it, if not to this process's user.
    owner: Option<(u32, u32)>,
}

impl Directory {
    /// Readable to nobody but the server's own user.
    const FILE_MODE: u32 = 0o600;
    const DIRECTORY_MODE: u32 = 0o700;

    /// The directory with this path, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(Self::DIRECTORY_MODE).create(path)?;
        Ok(Self::at(path))
    }

    /// The directory with this path, which is there.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), is_only_read: false, owner: None }
    }

    /// The same to be read: its files are opened for nothing else.
    pub(crate) fn to_read(path: &Path) -> Self {
        Self { path: path.to_owned(), is_only_read: true, owner: None }
    }
}

/// The same error, with what could not be done.
pub(crate) fn that(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Whether the disk says that it is full. O(1).
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an operation that has changed nothing may succeed later: the disk has no room, or too many files are open.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    is_full(error)
        || error.kind() == io::ErrorKind::WouldBlock
        || Errno::from_io_error(error)
            .is_some_and(|errno| [Errno::MFILE, Errno::NFILE].contains(&errno))
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        let mut names: Vec<String> = fs::read_dir(&self.path)?
            .filter_map(|entry| name(entry).transpose())
            .collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(!self.is_only_read);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(Self::FILE_MODE);
        let file = options.open(self.path.join(name))?;
        if let Some((user, group)) = self.owner {
            fchown(&file, Some(user), Some(group))?;
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Box<dyn Disk>> {
        let path = self.path.join(name);
        DirBuilder::new().recursive(true).mode(Self::DIRECTORY_MODE).create(&path)?;
        if !fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::Error::other(format!("{name} is no directory of its own")));
        }
        // What root makes is for the server, whose user the directory belongs to.
        let metadata = fs::metadata(&self.path)?;
        let owner = geteuid().is_root().then(|| (metadata.uid(), metadata.gid()));
        if let Some((user, group)) = owner {
            chown(&path, Some(user), Some(group))?;
        }
        Ok(Box::new(Self { path, is_only_read: false, owner }))
    }

    fn remove_subdirectory(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.path.join(name))
    }
}

impl DiskFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < bytes.len() {
            match FileExt::read_at(self, &mut bytes[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // The file system has no such thing: writing will tell.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            reserved => Ok(reserved?),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cache(&self) {
        // Advice: where the system does not take it, the file is read from memory.
        let _ = fadvise(self, 0, None, Advice::DontNeed);
    }
}
