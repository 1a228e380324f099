//! One try of copying a directory: see `copy.rs`.
//!
//! The newest snapshot is opened first, and only then the segments: so all frames are there that the snapshot rests on. A
//! file that the server removes meanwhile can still be read; a segment that it uses again gets another head before anything
//! else, so the head is read once more after the frames.
//!
//! The frames of the last segment are read up to the end of the whole ones, as after a crash: so the copy has what was
//! committed before it began. Checksums are of what is sealed, so no key is needed.
//!
//! The head of the oldest segment is written last: what is there of a copy that was not finished is refused.

use super::disk::{Disk, DiskFile};
use super::error::OpenError;
use super::frame::FrameHead;
use super::head::{self, FileHead, FileKind};
use super::search::Search;
use super::{plan, segments, snapshot};
use crate::engine::fail_point::FailPoint;
use crate::time::Timestamp;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The number of the last frame.
    pub last_frame: u64,
    /// When it was written.
    pub at: Timestamp,
    /// How many files the copy has.
    pub files: usize,
    /// How many bytes were written to them.
    pub bytes: u64,
}

/// Why a try has failed.
pub(super) enum Problem {
    /// A segment was used again.
    Moved,
    /// The directory cannot be read, or it has changed meanwhile.
    From(OpenError),
    /// The copy cannot be written.
    To(OpenError),
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Self::From(error)
    }
}

/// An open file with its head, which was read when it was opened.
struct Source {
    name: String,
    file: Box<dyn DiskFile>,
    bytes: Vec<u8>,
    head: FileHead,
}

impl Source {
    fn open(disk: &dyn Disk, kind: FileKind, name: &str) -> Result<Self, OpenError> {
        let file = disk.open(name).map_err(OpenError::io(name))?;
        let bytes = head::bytes(&*file, name)?;
        let head = FileHead::read(kind, name, &bytes)?;
        Ok(Self { name: name.to_owned(), file, bytes, head })
    }

    fn damaged<T>(&self, offset: u64, what: &str) -> Result<T, Problem> {
        Err(OpenError::damaged(&self.name, offset, what).into())
    }
}

/// Where the copy is written.
pub(super) struct Target<'a> {
    disk: &'a dyn Disk,
    names: Vec<String>,
    bytes: u64,
}

impl<'a> Target<'a> {
    pub(super) fn new(disk: &'a dyn Disk) -> Self {
        Self { disk, names: Vec::new(), bytes: 0 }
    }

    fn create(&mut self, name: &str) -> Result<Box<dyn DiskFile>, Problem> {
        self.names.push(name.to_owned());
        self.disk.create(name).map_err(|error| Problem::To(OpenError::io(name)(error)))
    }

    fn write(
        &mut self,
        name: &str,
        file: &dyn DiskFile,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        self.bytes += bytes.len() as u64;
        file.write_at(offset, bytes).map_err(|error| Problem::To(OpenError::io(name)(error)))
    }

    /// Removes what was written, and last of all what lets the rest be refused.
    pub(super) fn remove(&self) {
        for name in self.names.iter().rev() {
            // What cannot be removed is refused.
            let _ = self.disk.remove(name);
        }
    }
}

fn sync(name: &str, file: &dyn DiskFile) -> Result<(), Problem> {
    file.sync().map_err(|error| Problem::To(OpenError::io(name)(error)))
}

/// Copies `from`, which may change meanwhile, to `to`, which is empty. `None` if `from` has nothing. O(bytes).
///
/// # Errors
///
/// [`Problem`]. Then [`Target::remove`] removes what was written.
pub(super) fn attempt(from: &dyn Disk, to: &mut Target<'_>) -> Result<Option<Copied>, Problem> {
    let early = FailPoint::CopyOpensSnapshotLast.is_on().then(|| segments_with_frames(from));
    let mut numbers = numbers(from, FileKind::Snapshot)?;
    let newest = numbers.pop().map(|number| FileKind::Snapshot.name(number));
    let open = |name: String| Source::open(from, FileKind::Snapshot, &name);
    let newest = newest.map(open).transpose()?;
    // Not before: the snapshot rests on them.
    let all = early.unwrap_or_else(|| segments_with_frames(from))?;
    let Some(last) = all.last() else {
        return match newest {
            None => Ok(None),
            Some(newest) => newest.damaged(0, "the segments that follow it are missing"),
        };
    };
    if let Some(newest) = newest.iter().find(|newest| newest.head.directory != last.head.directory)
    {
        return newest.damaged(0, "it belongs to another directory");
    }
    let first = newest.as_ref().map_or(1, |newest| newest.head.first);
    let heads: Vec<FileHead> = all.iter().map(|source| source.head).collect();
    let needed = &all[segments::needed(&heads, first)?..];
    let oldest = &needed[0];
    let to_oldest = to.create(&oldest.name)?;
    sync_names(to)?;

    let mut end = FrameHead {
        length: 0,
        sequence: oldest.head.first - 1,
        durable: 0,
        at: Timestamp::default(),
        mark: oldest.head.mark,
        ceiling: 0,
    };
    // Segments first, as the server uses them again.
    let mut bytes = Vec::new();
    for (n, source) in needed.iter().enumerate() {
        let limit = needed.get(n + 1).map(|next| next.head.previous_end);
        read_segment(source, limit, &mut end, &mut bytes)?;
        let is_oldest = n == 0;
        let begin = if is_oldest { FileHead::ROOM } else { 0 };
        let file = if is_oldest { None } else { Some(to.create(&source.name)?) };
        let file = file.as_deref().unwrap_or(&*to_oldest);
        to.write(&source.name, file, begin as u64, bytes.get(begin..).unwrap_or_default())?;
        if limit.is_none() && (bytes.len() as u64) < source.head.room {
            // Nothing is behind the end that could be taken for the beginning of a frame.
            to.write(&source.name, file, source.head.room - 1, &[0])?;
        }
        sync(&source.name, file)?;
    }
    if end.sequence + 1 < first {
        let what = format!("frames up to {} are missing, on which the snapshot rests", first - 1);
        return last.damaged(bytes.len() as u64, &what);
    }
    if let Some(newest) = &newest {
        copy_snapshot(newest, to)?;
    }
    sync_names(to)?;
    to.write(&oldest.name, &*to_oldest, 0, &oldest.bytes)?;
    sync(&oldest.name, &*to_oldest)?;
    let (files, bytes) = (to.names.len(), to.bytes);
    Ok(Some(Copied { last_frame: end.sequence, at: end.at, files, bytes }))
}

fn sync_names(to: &Target<'_>) -> Result<(), Problem> {
    to.disk.sync_names().map_err(|error| Problem::To(OpenError::io("")(error)))
}

/// The numbers of the files of a kind, in order.
fn numbers(disk: &dyn Disk, kind: FileKind) -> Result<Vec<u64>, OpenError> {
    let names = disk.list().map_err(OpenError::io(""))?;
    if names.iter().any(|name| name == plan::UNFINISHED) {
        return Err(OpenError::RepairUnfinished);
    }
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| kind.number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn segments_with_frames(disk: &dyn Disk) -> Result<Vec<Source>, OpenError> {
    let numbers = numbers(disk, FileKind::Segment)?;
    let open = |number| Source::open(disk, FileKind::Segment, &FileKind::Segment.name(number));
    let mut sources = numbers.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    sources.retain(|source| source.head.first > 0);
    Ok(sources)
}

/// Reads the head and the frames of a segment into `bytes`, up to `limit`, or to the end of the whole ones. `end` is the last
/// frame before, and then that of this one.
fn read_segment(
    source: &Source,
    limit: Option<u64>,
    end: &mut FrameHead,
    bytes: &mut Vec<u8>,
) -> Result<(), Problem> {
    let Source { name, file, head, .. } = source;
    let read = segments::read_file(&**file, name, limit, bytes);
    if head::bytes(&**file, name)? != source.bytes {
        return Err(Problem::Moved);
    }
    read?;
    if head.first != end.sequence + 1 {
        let what = format!("it begins with frame {}, not {}", head.first, end.sequence + 1);
        return source.damaged(0, &what);
    }
    if limit.is_none() && (bytes.len() as u64) < head.room {
        return source.damaged(bytes.len() as u64, "it ends too early");
    }
    let mut offset = FileHead::ROOM;
    loop {
        let frame = segments::frame_at(bytes, offset, head.seed(), end.sequence + 1);
        let Some((frame, _)) = frame else { break };
        offset += FrameHead::room(frame.length as usize);
        *end = frame;
    }
    if limit.is_some_and(|limit| (offset as u64) < limit) {
        return source.damaged(offset as u64, "a frame does not match its checksum");
    }
    if limit.is_none() {
        let search = Search::new(bytes, head.seed());
        let (_, is_damaged) = search.look_behind(offset, end.sequence + 1);
        if is_damaged {
            let what = "a frame that was on disk does not match its checksum";
            return source.damaged(offset as u64, what);
        }
        bytes.truncate(offset);
    }
    Ok(())
}

/// Nobody changes a snapshot.
fn copy_snapshot(source: &Source, to: &mut Target<'_>) -> Result<(), Problem> {
    let Source { name, file, head, .. } = source;
    let target = to.create(name)?;
    to.write(name, &*target, 0, &source.bytes)?;
    let (mut offset, mut bytes) = (source.bytes.len() as u64, Vec::new());
    for number in 0.. {
        let block = snapshot::read_block(&**file, offset, head.seed(), &mut bytes);
        let block = block.map_err(OpenError::io(name))?.filter(|block| block.number == number);
        let Some(block) = block else {
            return source.damaged(offset, "a block does not match its checksum");
        };
        to.write(name, &*target, offset, &bytes)?;
        offset += bytes.len() as u64;
        if block.is_last {
            break;
        }
    }
    if file.length().map_err(OpenError::io(name))? != offset {
        return source.damaged(offset, "something follows its end");
    }
    sync(name, &*target)
}
