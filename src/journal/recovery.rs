//! Reading a directory back: the newest snapshot, and the frames since then.

use std::collections::HashSet;

use super::bytes::Reader;
use super::disk::Disk;
use super::error::OpenError;
use super::head::{FileHead, FileKind};
use super::record::{self, FindQuota, Record};
use super::seal::DataKey;
use super::segments::Segments;
use super::writer::Begun;
use super::{plan, snapshot, spares};
use crate::engine::{After, Entry};
use crate::key::KeyId;
use crate::time::{ClockAnchor, Timestamp};

/// Receives what is read.
pub(crate) trait Replay {
    /// Takes a record.
    ///
    /// # Errors
    ///
    /// [`Unknown`]: it says how a key has changed that is not there.
    fn record(&mut self, record: Record) -> Result<(), Unknown>;

    /// These records come next.
    fn prefetch(&self, records: &[Record]);

    /// All that follows was written at `at` or later, by changes that gave no generation below `floor`.
    fn time(&mut self, at: Timestamp, floor: u64);

    /// So many bytes were read, of so many at most.
    fn progress(&mut self, read: u64, all: u64);
}

/// A key that has changed and is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) id: KeyId,
    /// When it dies.
    pub(crate) life_ends: Timestamp,
}

/// What was found in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The directory's own random number.
    pub(crate) directory: [u8; 16],
    /// The last frame.
    pub(crate) sequence: u64,
    /// When it was written.
    pub(crate) at: Timestamp,
    /// See [`super::frame::FrameHead::mark`].
    pub(crate) mark: Timestamp,
    /// How the clock ran.
    pub(crate) clock: ClockAnchor,
    /// The floor for generations from now on.
    pub(crate) floor: u64,
    /// The last segment, and where its frames end.
    pub(crate) end: (u64, u64),
    /// The segments with frames that are needed.
    pub(crate) begun: Vec<Begun>,
    /// The number of the next segment, and its room if it is ready.
    pub(crate) next_segment: (u64, Option<u64>),
    /// The number and the length of the snapshot, if there is one.
    pub(crate) snapshot: Option<(u64, u64)>,
    /// How many keys the snapshot has.
    pub(crate) snapshot_keys: u64,
    /// How many bytes of frames were read.
    pub(crate) frame_bytes: u64,
    /// How many frames were read.
    pub(crate) frames: u64,
    /// The end was cut off at this byte of the last segment, with so many whole frames.
    pub(crate) torn: Option<(String, u64, u64)>,
    /// Files that are not needed.
    pub(crate) unused: Vec<String>,
}

impl Found {
    /// What a new directory has.
    pub(crate) fn nothing() -> Self {
        Self { directory: rand::random(), next_segment: (1, None), ..Self::default() }
    }
}

/// Reads a directory, and gives all to `replay`. `None` if there is nothing yet. O(bytes).
///
/// # Errors
///
/// [`OpenError`]
pub(crate) fn read(
    disk: &dyn Disk,
    data_key: Option<&DataKey>,
    quota: &FindQuota<'_>,
    replay: &mut dyn Replay,
) -> Result<Option<Found>, OpenError> {
    let names = disk.list().map_err(OpenError::io(""))?;
    if names.iter().any(|name| name == plan::UNFINISHED) {
        return Err(OpenError::RepairUnfinished);
    }
    let segments = Segments::find(disk, &names)?;
    let mut snapshots: Vec<u64> =
        names.iter().filter_map(|name| FileKind::Snapshot.number(name)).collect();
    snapshots.sort_unstable();
    let unfinished =
        |name: &&String| [spares::UNFINISHED, snapshot::UNFINISHED].contains(&name.as_str());
    let mut unused: Vec<String> = names.iter().filter(unfinished).cloned().collect();
    let next = segments.begun.last().map_or(1, |head| head.number + 1);
    let (ready, others): (Vec<&FileHead>, Vec<_>) =
        segments.unused.iter().partition(|head| head.number == next);
    unused.extend(others.iter().map(|head| FileKind::Segment.name(head.number)));
    let next_segment = (next, ready.first().map(|head| head.room));
    let number = snapshots.pop();
    unused.extend(snapshots.into_iter().map(|number| FileKind::Snapshot.name(number)));
    let snapshot = number.map(|number| snapshot::read_head(disk, &FileKind::Snapshot.name(number)));
    let snapshot = snapshot.transpose()?;
    let Some(newest) = segments.begun.last() else {
        return match snapshot {
            None => Ok(None),
            Some(head) => Err(OpenError::damaged(
                &FileKind::Snapshot.name(head.number),
                0,
                "the segments that follow it are missing",
            )),
        };
    };
    let first = snapshot.as_ref().map_or(1, |head| head.first);
    let mut counts = Counts::default();
    let (mut length, of_frames) = (0, segments.bytes_from(first));
    if let Some(head) = &snapshot {
        if head.directory != newest.directory {
            let name = FileKind::Snapshot.name(head.number);
            return Err(OpenError::damaged(&name, 0, "it belongs to another directory"));
        }
        replay.time(Timestamp::default(), head.floor);
        counts.dead_by = head.mark;
        let keys = snapshot::read(disk, head, data_key, |records, read, all| {
            length = all;
            replay.progress(read, all + of_frames);
            counts.take(records, quota, replay)
        });
        counts.snapshot_keys = keys?;
        if counts.whole != counts.snapshot_keys {
            let what = format!("it has {} keys, not {}", counts.whole, counts.snapshot_keys);
            let name = FileKind::Snapshot.name(head.number);
            return Err(OpenError::damaged(&name, length, &what));
        }
    }
    let end = segments.read(disk, data_key, first, |head, frame, records, bytes| {
        counts.frames += 1;
        counts.frame_bytes += bytes;
        replay.time(frame.at, head.floor);
        replay.progress(length + counts.frame_bytes, length + of_frames);
        counts.take(records, quota, replay)
    })?;
    let name = FileKind::Segment.name(end.number);
    if end.frame.sequence + 1 < first {
        let what = format!("frames up to {} are missing, on which the snapshot rests", first - 1);
        return Err(OpenError::damaged(&name, end.offset, &what));
    }
    if let Some(id) = counts.unknown.iter().next() {
        let what = format!("something has changed key {id:?}, which is not there");
        return Err(OpenError::damaged(&name, end.offset, &what));
    }
    let begun = segments.begun.iter().map(|head| Begun { number: head.number, first: head.first });
    Ok(Some(Found {
        directory: newest.directory,
        sequence: end.frame.sequence,
        at: end.frame.at,
        mark: snapshot.map_or(end.frame.mark, |head| head.mark.max(end.frame.mark)),
        clock: newest.clock,
        floor: newest.floor.max(end.frame.ceiling),
        end: (end.number, end.offset),
        begun: begun.collect(),
        next_segment,
        snapshot: snapshot.map(|head| (head.number, length)),
        snapshot_keys: counts.snapshot_keys,
        frame_bytes: counts.frame_bytes,
        frames: counts.frames,
        torn: end.is_torn.then_some((name, end.offset, end.cut)),
        unused,
    }))
}

/// How many records are taken together, so that their cache misses overlap.
const TOGETHER: usize = 64;

/// What was read.
#[derive(Default)]
struct Counts {
    /// Records that say all about a key.
    whole: u64,
    snapshot_keys: u64,
    frames: u64,
    frame_bytes: u64,
    /// Keys that have changed and are not there: they had gone before the snapshot came to them, so a later record must
    /// say so. If they had died, none does.
    unknown: HashSet<KeyId>,
    /// When the snapshot ended.
    dead_by: Timestamp,
}

impl Counts {
    fn take(
        &mut self,
        mut records: Reader<'_>,
        quota: &FindQuota<'_>,
        replay: &mut dyn Replay,
    ) -> Result<(), String> {
        let mut next = Vec::with_capacity(TOGETHER);
        while !records.is_at_end() {
            while next.len() < TOGETHER && !records.is_at_end() {
                let record = record::read(&mut records, quota);
                next.push(
                    record
                        .map_err(|_| "a record cannot be read, although the checksum is right")?,
                );
            }
            replay.prefetch(&next);
            for record in next.drain(..) {
                self.note(&record);
                if let Err(unknown) = replay.record(record) {
                    let is_dead = unknown.life_ends <= self.dead_by;
                    self.unknown.extend((!is_dead).then_some(unknown.id));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        if let Record::Key(_, Entry { id, after }) = record {
            match after {
                After::Whole { .. } => self.whole += 1,
                After::Gone if !self.unknown.is_empty() => {
                    self.unknown.remove(id);
                }
                _ => {}
            }
        }
    }
}
