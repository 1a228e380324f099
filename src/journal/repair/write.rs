//! Writing what was kept: a snapshot with all keys, and a segment with one frame.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use ring::digest::{SHA256, digest};

use crate::engine::{After, Entry, Journal, Pool, WalkCursor};
use crate::journal::disk::Disk;
use crate::journal::frame::FrameHead;
use crate::journal::head::{FileHead, FileKind};
use crate::journal::seal::{Seal, Sealed};
use crate::journal::snapshot::SnapshotWriter;
use crate::key::KeyId;
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// How many keys a snapshot takes at a time.
const STEP: usize = 256;

/// A pool that was kept.
pub(super) struct KeptPool<J: Journal> {
    pub(super) name: PoolName,
    pub(super) settings: Settings,
    /// Since when it has these settings; `None` if no record says so.
    pub(super) since: Option<Timestamp>,
    pub(super) keys: Pool<J>,
}

/// What was kept.
pub(super) struct Kept<J: Journal> {
    pub(super) pools: BTreeMap<u32, KeptPool<J>>,
    /// Keys that are left out all the same.
    pub(super) without: HashSet<KeyId>,
    /// The last time that was seen.
    pub(super) at: Timestamp,
}

/// The files to write.
pub(super) struct New<'s> {
    /// What the heads of both have in common. `first` is the number of the frame.
    pub(super) head: FileHead,
    pub(super) snapshot: u64,
    pub(super) segment: u64,
    pub(super) seal: Option<&'s Seal>,
}

impl New<'_> {
    /// Their names.
    pub(super) fn names(&self) -> [String; 2] {
        [FileKind::Snapshot.name(self.snapshot), FileKind::Segment.name(self.segment)]
    }
}

impl<J: Journal> Kept<J> {
    /// Gives all keys to `each`, with the numbers of their pools. O(n).
    fn walk(&self, mut each: impl FnMut(u32, &Entry) -> io::Result<()>) -> io::Result<()> {
        for (number, pool) in &self.pools {
            // How long keys of the default pool rest after a lease may be an option of the server: so that is left to it.
            let now = if pool.since.is_some() { self.at } else { Timestamp::default() };
            let mut cursor = Some(WalkCursor::default());
            while let Some(from) = cursor {
                let mut entries = Vec::with_capacity(STEP);
                cursor = pool.keys.walk_whole(from, STEP, now, |entry| entries.push(entry));
                let is_kept = |entry: &&Entry| !self.without.contains(&entry.id);
                entries.iter().filter(is_kept).try_for_each(|entry| each(*number, entry))?;
            }
        }
        Ok(())
    }

    /// Leaves out keys whose value a later one of their pool has, so that each value is there once. O(n).
    pub(super) fn leave_out_doubles(&mut self) {
        let mut of_value = HashMap::<(u32, Vec<u8>), (Timestamp, KeyId)>::new();
        let mut without = HashSet::new();
        let walked = self.walk(|number, Entry { id, after }| {
            let After::Whole { created_at, value: Some(value), .. } = after else { return Ok(()) };
            let this = (*created_at, *id);
            // The values are secrets, and stay where they are.
            let digest = digest(&SHA256, value.reveal().as_bytes()).as_ref().to_vec();
            let known = of_value.entry((number, digest)).or_insert(this);
            if *known != this {
                let older = this.min(*known);
                *known = this.max(*known);
                without.insert(older.1);
            }
            Ok(())
        });
        walked.expect("nothing is written");
        self.without = without;
    }

    /// How many keys there are, and how many of them are leased. O(n).
    pub(super) fn count(&self) -> (u64, u64) {
        let (mut keys, mut leased) = (0, 0);
        let walked = self.walk(|_, Entry { after, .. }| {
            keys += 1;
            if let After::Whole { state, .. } = after {
                let is_over = state.block.is_none_or(|(_, until)| until <= self.at);
                leased += u64::from(state.generation % 2 == 1 && !is_over);
            }
            Ok(())
        });
        walked.expect("nothing is written");
        (keys, leased)
    }

    /// Writes the files. O(n).
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(super) fn write(&self, disk: &dyn Disk, new: &New<'_>) -> io::Result<()> {
        let head = FileHead { kind: FileKind::Snapshot, number: new.snapshot, ..new.head };
        let mut snapshot = SnapshotWriter::begin(disk, head, new.seal)?;
        for (number, KeptPool { name, settings, since, .. }) in &self.pools {
            if let Some(since) = since {
                snapshot.add_pool(*number, name, settings, *since);
                snapshot.write_if_full()?;
            }
        }
        self.walk(|number, entry| {
            snapshot.add_key(number, entry);
            snapshot.write_if_full()
        })?;
        snapshot.finish(new.head.mark)?;
        snapshot.publish()?;
        self.write_segment(disk, new)?;
        disk.sync_names()
    }

    /// A segment with one frame, which has no record: what a server writes at its end.
    fn write_segment(&self, disk: &dyn Disk, new: &New<'_>) -> io::Result<()> {
        let sequence = new.head.first;
        let mut frame = vec![0; FrameHead::BYTES];
        if let Some(seal) = new.seal {
            seal.seal(Sealed::Frame(sequence), &mut frame, FrameHead::BYTES);
        }
        let length = u32::try_from(frame.len() - FrameHead::BYTES).expect("it is short");
        let room = (FileHead::ROOM + FrameHead::room(length as usize)) as u64;
        let head = FileHead { number: new.segment, room, ..new.head };
        let of_frame = FrameHead {
            length,
            sequence,
            durable: sequence - 1,
            at: self.at,
            mark: new.head.mark,
            ceiling: 0,
        };
        of_frame.finish(&mut frame, head.seed());
        let mut bytes = head.write();
        bytes.append(&mut frame);
        let file = disk.create(&FileKind::Segment.name(new.segment))?;
        file.write_at(0, &bytes)?;
        file.sync()
    }
}
