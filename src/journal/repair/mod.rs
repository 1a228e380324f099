//! Repairing a damaged directory: what is whole is kept, and what is not is named.
//!
//! - **Frames** are kept up to the first one that cannot be read. Those behind it are dropped: they would mix states that the
//!   pools have never been in together (`frames.rs`).
//! - **Blocks of a snapshot** are kept if their checksums are right. The keys of others are lost (`blocks.rs`).
//! - **No generation is given again**: all that anything says counts, and a reserve for what cannot be read.
//! - **Nothing is removed**: the damaged files go to a directory of their own, once whole ones are ready to take their place
//!   (`../plan.rs`).

mod blocks;
mod files;
mod frames;
mod report;
mod taker;
mod write;

use std::collections::HashSet;

use self::blocks::Blocks;
use self::files::Files;
use self::frames::{Begin, Frames};
pub use self::report::{FramesKept, Place, RepairError, Repaired, SnapshotKept};
use self::taker::Taker;
use self::write::{Kept, KeptPool, New};
use super::committer::Committer;
use super::disk::{Disk, is_full};
use super::error::OpenError;
use super::head::{FileHead, FileKind};
use super::plan::{MAKING, Plan, UNFINISHED};
use super::record::Record;
use super::recovery::{self, Replay, Unknown};
use super::restorer::Restorer;
use super::seal::{DataKey, Seal};
use super::snapshot;
use crate::engine::{Journal, Pool};
use crate::pool::Settings;
use crate::time::Timestamp;

/// A directory to repair, which nobody else uses.
pub(crate) struct Repair<'r> {
    pub(crate) disk: &'r dyn Disk,
    pub(crate) data_key: Option<&'r DataKey>,
    /// The directory in it that damaged files go to. Another name is taken if there is one.
    pub(crate) moved_to: &'r str,
    /// What the operator is told.
    pub(crate) describe: &'r dyn Fn(&Repaired) -> String,
}

impl Repair<'_> {
    /// Repairs the directory, and returns what the operator is told of it; `None` if it is whole, and nothing was changed.
    /// `restorer` makes one for empty pools. O(n log n) for n keys.
    ///
    /// # Errors
    ///
    /// [`RepairError`]
    pub(crate) fn run<J: Journal, M: FnMut(u32, Settings) -> Pool<J>>(
        &self,
        restorer: impl Fn() -> Restorer<J, M>,
    ) -> Result<Option<String>, RepairError> {
        if let Some(plan) = Plan::find(self.disk).map_err(OpenError::io(UNFINISHED))? {
            plan.finish(self.disk).map_err(RepairError::Interrupted)?;
            return Ok(Some(plan.report));
        }
        match recovery::read(self.disk, self.data_key, &|_| None, &mut restorer()) {
            Ok(None) => return Err(RepairError::Empty),
            Ok(Some(_)) => return Ok(None),
            Err(OpenError::Damaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let plan = self.make(restorer()).inspect_err(|_| self.clear())?;
        if let Err(error) = plan.begin(self.disk) {
            // If nobody knows whether the plan counts, it may.
            let is_void =
                self.disk.list().is_ok_and(|names| !names.contains(&UNFINISHED.to_owned()));
            if is_void {
                self.clear();
                return Err(RepairError::NotWritten(error.to_string()));
            }
            return Err(RepairError::Interrupted(error));
        }
        plan.finish(self.disk).map_err(RepairError::Interrupted)?;
        Ok(Some(plan.report))
    }

    /// Makes the new files, and reads them again.
    fn make<J: Journal, M: FnMut(u32, Settings) -> Pool<J>>(
        &self,
        mut restorer: Restorer<J, M>,
    ) -> Result<Plan, RepairError> {
        let files = Files::find(self.disk, self.data_key)?;
        let mut taker = Taker::new(&mut restorer);
        let (snapshot, unreadable) = self.read_snapshot(&files, &mut taker)?;
        let begin = match &snapshot {
            None => Begin::Empty,
            Some(Blocks { kept, .. }) if kept.is_headless => Begin::Found,
            Some(Blocks { head, kept, .. }) => {
                Begin::At { first: head.first, has_state: kept.found > 0 || kept.blocks_lost == 0 }
            }
        };
        let frames = frames::read(self.disk, &files, self.data_key, begin, &mut taker)?;
        if snapshot.is_none() && frames.kept.count == 0 {
            return Err(RepairError::NothingReadable);
        }
        let of_snapshot = snapshot.as_ref().map_or(Timestamp::default(), |blocks| blocks.head.mark);
        let at = frames.at.max(of_snapshot);
        let heads = || files.heads();
        let mark = heads().map(|head| head.mark).max().unwrap_or_default().max(frames.mark).max(at);
        let floor = floor(&files, &frames, taker.generation);
        let mut repaired = Repaired {
            floor,
            moved_to: self.free_name()?,
            places: unreadable.into_iter().collect(),
            unknown_keys: taker.unknown.len() as u64,
            ..Repaired::default()
        };
        let (mut names, nameless) = taker.into_names();
        repaired.nameless = nameless;
        let (pools, ..) = restorer.into_pools();
        let pools = pools.into_iter().map(|(number, pool)| {
            let name = names.remove(&number).unwrap_or(pool.name);
            let keys = pool.keys.finish(at);
            (number, KeptPool { name, settings: pool.settings, since: pool.since, keys })
        });
        let mut kept = Kept { pools: pools.collect(), without: HashSet::new(), at };
        let room = frames.kept_bytes + files.snapshots.iter().map(|file| file.length).sum::<u64>();
        let last = frames.last;
        repaired.note(snapshot, frames, &mut kept);
        let Some(newest) = files.newest() else { return Err(RepairError::NothingReadable) };
        let salt = rand::random();
        let seal = self.data_key.map(|key| Seal::new(key, salt));
        let head = FileHead {
            kind: FileKind::Segment,
            number: 0,
            first: last + 1,
            previous: 0,
            previous_end: 0,
            floor,
            mark,
            salt,
            key_check: seal.as_ref().map_or([0; 16], |seal| seal.check),
            room: 0,
            ..*newest
        };
        let next = |found: &[files::Found]| found.last().map_or(1, |file| file.number + 1);
        let (snapshot, segment) = (next(&files.snapshots), next(&files.segments));
        let new = New { head, snapshot, segment, seal: seal.as_ref() };
        self.write(&kept, &new, repaired.keys).map_err(|error| match error {
            OpenError::Io { error, .. } if is_full(&error) => RepairError::NoRoom(room + (1 << 20)),
            error => RepairError::NotWritten(error.to_string()),
        })?;
        let report = (self.describe)(&repaired);
        Ok(Plan { damaged: repaired.moved_to, new: new.names().to_vec(), report })
    }

    /// Reads the newest snapshot; an older one if that is whole, and the newest is not. Also says which one cannot be read.
    fn read_snapshot(
        &self,
        files: &Files,
        taker: &mut Taker<'_>,
    ) -> Result<(Option<Blocks>, Option<Place>), RepairError> {
        let is_whole = |file: &&files::Found| {
            let Ok(head) = &file.head else { return false };
            let needed = files.segments.iter().filter_map(files::Found::first);
            let has_frames = needed.into_iter().any(|first| first > 0 && first <= head.first);
            has_frames && snapshot::read(self.disk, head, self.data_key, |_, _, _| Ok(())).is_ok()
        };
        let chosen = files.snapshots.iter().rev().find(is_whole).or(files.snapshots.last());
        let Some(chosen) = chosen else { return Ok((None, None)) };
        let blocks = blocks::read(self.disk, files, chosen, self.data_key, taker)?;
        let what = chosen.head.as_ref().err().filter(|_| blocks.is_none());
        let unreadable = what.map(|what| chosen.place(FileKind::Snapshot, what));
        Ok((blocks, unreadable))
    }

    /// Writes the new files beside the damaged ones, and reads them as a server does.
    fn write<J: Journal>(&self, kept: &Kept<J>, new: &New<'_>, keys: u64) -> Result<(), OpenError> {
        self.clear();
        let making = self.disk.subdirectory(MAKING).map_err(OpenError::io(MAKING))?;
        kept.write(&*making, new).map_err(OpenError::io(MAKING))?;
        let found = recovery::read(&*making, self.data_key, &|_| None, &mut Nobody)?;
        let is_same = found.is_some_and(|found| {
            (found.snapshot_keys, found.floor, found.sequence)
                == (keys, new.head.floor, new.head.first)
        });
        if is_same {
            Ok(())
        } else {
            Err(OpenError::damaged(MAKING, 0, "it is not what was written"))
        }
    }

    /// Removes new files that are not needed.
    fn clear(&self) {
        // If that is not possible, the next ones take their place.
        if let Ok(making) = self.disk.subdirectory(MAKING) {
            for name in making.list().unwrap_or_default() {
                let _ = making.remove(&name);
            }
            let _ = self.disk.remove_subdirectory(MAKING);
        }
    }

    /// A name for the directory of the damaged files that nothing has.
    fn free_name(&self) -> Result<String, OpenError> {
        let names = self.disk.list().map_err(OpenError::io(""))?;
        let mut name = self.moved_to.to_owned();
        for again in 2.. {
            if !names.contains(&name) {
                break;
            }
            name = format!("{}-{again}", self.moved_to);
        }
        Ok(name)
    }
}

/// The first generation that may be given from now on. Even.
///
/// What cannot be read may have given others than those that can. A change takes 28 bytes at least, and with what it
/// implies raises a generation by three at most; each run, which has a segment of its own at least, may have left out as many
/// as are reserved at a time.
fn floor(files: &Files, frames: &Frames, generation: u64) -> u64 {
    let of_heads = files.heads().map(|head| head.floor).max().unwrap_or(0);
    let (bytes, segments) = frames.lost;
    let reserve = Committer::GENERATIONS.saturating_mul(1 + segments).saturating_add(bytes / 8);
    // One that is too large cannot be written: then nothing is repaired.
    let floor = of_heads.max(frames.ceiling).max(generation).saturating_add(reserve);
    floor.saturating_add(1) & !1
}

impl Repaired {
    /// Notes what was kept.
    fn note<J: Journal>(&mut self, snapshot: Option<Blocks>, frames: Frames, kept: &mut Kept<J>) {
        self.frames = frames.kept;
        if let Some(Blocks { head, kept: of_snapshot, places }) = snapshot {
            self.places.extend(places);
            // What the snapshot says of a frame was on disk when it ended.
            let is_mixed = self.has_lost_frames() && self.frames.at <= head.mark;
            self.snapshot = Some(SnapshotKept { is_mixed, ..of_snapshot });
        }
        self.places.extend(frames.places);
        kept.leave_out_doubles();
        self.same_values = kept.without.len() as u64;
        self.pools = kept.pools.len() as u64;
        (self.keys, self.leased) = kept.count();
    }
}

/// Takes what is read only to see that it can be.
struct Nobody;

impl Replay for Nobody {
    fn record(&mut self, _: Record) -> Result<(), Unknown> {
        Ok(())
    }

    fn prefetch(&self, _: &[Record]) {}

    fn time(&mut self, _: Timestamp, _: u64) {}

    fn progress(&mut self, _: u64, _: u64) {}
}
