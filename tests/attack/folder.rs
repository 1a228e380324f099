//! Data directories.

use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Where the head of a segment has the number of its first frame; 0 in one that is ready for use.
const FIRST_FRAME: Range<usize> = 40..48;
/// And the floor of generations, see [`crate::restarts`].
const FLOOR: Range<usize> = 64..72;

/// A directory that ends with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("attack-{name}-{process}-{number}"));
        // One that a process with the same number has left.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The number of the last segment that has frames, and the floor of generations that it names; zeros without any.
    pub(crate) fn last_begun_segment(&self) -> (u64, u64) {
        let begun = |name: &String| {
            let number = name.strip_prefix("segment-")?.parse().ok()?;
            let mut head = [0; FLOOR.end];
            // A server may just have removed it.
            File::open(self.file(name)).ok()?.read_exact(&mut head).ok()?;
            let field = |place: Range<usize>| u64::from_le_bytes(head[place].try_into().unwrap());
            (field(FIRST_FRAME) > 0).then(|| (number, field(FLOOR)))
        };
        self.names().iter().filter_map(begun).max().unwrap_or_default()
    }

    /// Makes this a copy of another one.
    pub(crate) fn become_copy_of(&self, other: &Self) {
        for name in self.names() {
            fs::remove_file(self.file(&name)).unwrap();
        }
        for name in other.names() {
            fs::copy(other.file(&name), self.file(&name)).unwrap();
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
