//! What a journal has done, for its operator.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// What the journal of a data directory has done since the start, and what the directory has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Bytes that were written: frames, and heads of segments.
    pub written_bytes: u64,
    /// Commits. Each is one frame.
    pub commits: u64,
    /// How long they took in all, in nanoseconds: writing, and flushing where answers wait for that.
    pub commit_ns: u64,
    /// Whether the disk has room for changes. Without, they are refused.
    pub has_room: bool,
    /// Snapshots that were written.
    pub snapshots_written: u64,
    /// Snapshots that could not be written.
    pub snapshots_failed: u64,
    /// How long the last snapshot is, in bytes, also if it was written before the start. 0 if there is none.
    pub snapshot_bytes: u64,
    /// Bytes of frames since that began: what the next start reads besides it.
    pub bytes_since_snapshot: u64,
}

/// The counters behind [`JournalStats`]. Only the threads of the journal change them, so no request pays for them.
#[derive(Default)]
pub(crate) struct Counters {
    written: AtomicU64,
    commits: AtomicU64,
    commit_ns: AtomicU64,
    snapshots_written: AtomicU64,
    snapshots_failed: AtomicU64,
    snapshot_bytes: AtomicU64,
    /// How many bytes of frames there were at the start that the snapshot of then does not have.
    found: AtomicU64,
    /// How many bytes of those and of the ones written since are in the last snapshot.
    covered: AtomicU64,
}

impl Counters {
    /// Notes what a directory had at the start: frames since the last snapshot, and how long that is, in bytes.
    pub(crate) fn found(&self, frame_bytes: u64, snapshot_bytes: u64) {
        self.found.store(frame_bytes, SeqCst);
        self.snapshot_bytes.store(snapshot_bytes, SeqCst);
    }

    /// Notes a commit of so many bytes that took so long.
    pub(crate) fn add_commit(&self, bytes: u64, took: Duration) {
        self.written.fetch_add(bytes, SeqCst);
        self.commits.fetch_add(1, SeqCst);
        self.commit_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), SeqCst);
    }

    /// What was written since the start, in bytes.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(SeqCst)
    }

    /// Notes a snapshot of so many bytes. It began when `written` bytes had been written since the start.
    pub(crate) fn add_snapshot(&self, bytes: u64, written: u64) {
        self.snapshot_bytes.store(bytes, SeqCst);
        self.covered.store(self.found.load(SeqCst) + written, SeqCst);
        self.snapshots_written.fetch_add(1, SeqCst);
    }

    /// Notes a snapshot that could not be written.
    pub(crate) fn add_failed_snapshot(&self) {
        self.snapshots_failed.fetch_add(1, SeqCst);
    }

    /// All of them. O(1).
    pub(crate) fn read(&self, has_room: bool) -> JournalStats {
        // First what follows the other, so that it is not ahead of that.
        let covered = self.covered.load(SeqCst);
        let written_bytes = self.written();
        JournalStats {
            written_bytes,
            commits: self.commits.load(SeqCst),
            commit_ns: self.commit_ns.load(SeqCst),
            has_room,
            snapshots_written: self.snapshots_written.load(SeqCst),
            snapshots_failed: self.snapshots_failed.load(SeqCst),
            snapshot_bytes: self.snapshot_bytes.load(SeqCst),
            bytes_since_snapshot: (self.found.load(SeqCst) + written_bytes).saturating_sub(covered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_snapshot_has_need_not_be_read_besides_it() {
        let counters = Counters::default();
        counters.found(1000, 300);
        counters.add_commit(50, Duration::from_micros(2));
        counters.add_commit(70, Duration::from_micros(3));
        let mut expected = JournalStats {
            written_bytes: 120,
            commits: 2,
            commit_ns: 5000,
            has_room: true,
            snapshot_bytes: 300,
            bytes_since_snapshot: 1120,
            ..JournalStats::default()
        };
        assert_eq!(counters.read(true), expected);
        // One that fails changes nothing about the last one.
        counters.add_failed_snapshot();
        (expected.snapshots_failed, expected.has_room) = (1, false);
        assert_eq!(counters.read(false), expected);
        // It began before the second commit.
        counters.add_snapshot(400, 50);
        expected.snapshots_written = 1;
        (expected.snapshot_bytes, expected.bytes_since_snapshot) = (400, 70);
        assert_eq!(counters.read(false), expected);
        counters.add_commit(1, Duration::ZERO);
        assert_eq!(counters.read(false).bytes_since_snapshot, 71);
    }
}
