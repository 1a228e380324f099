//! When a snapshot is due.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::snapshots::Snapshots;

/// When to write a snapshot after one that failed.
const RETRY: Duration = Duration::from_secs(30);
/// On a disk that is full, a snapshot is due that frees so many bytes.
const WORTH_BYTES: u64 = 4 << 20;

/// When a snapshot is due: the threads that commit and that write snapshots share it.
pub(super) struct SnapshotDue(Mutex<State>);

struct State {
    /// How many bytes of frames there were since the last one when the server started.
    before: u64,
    /// How many had been written since then when the last one began.
    written: u64,
    /// How long the last one is, in bytes.
    length: u64,
    due_after: u64,
    is_under_way: bool,
    not_before: Option<Instant>,
}

impl SnapshotDue {
    pub(super) fn new(snapshots: &Snapshots) -> Self {
        Self(Mutex::new(State {
            before: snapshots.frame_bytes,
            written: 0,
            length: snapshots.length,
            due_after: snapshots.due_after(),
            is_under_way: false,
            not_before: None,
        }))
    }

    /// Whether one was due when the server started.
    pub(super) fn was_at_start(&self) -> bool {
        let state = self.0.lock();
        state.before >= state.due_after
    }

    /// Whether one is due, when so many bytes of frames have been written since the start. If the disk is short of room, as
    /// soon as that frees some.
    pub(super) fn is_now(&self, written: u64, is_short: bool) -> bool {
        self.0.lock().is_due(written, is_short)
    }

    /// As [`SnapshotDue::is_now`]; then it is under way.
    pub(super) fn begin(&self, written: u64, is_short: bool) -> bool {
        let mut state = self.0.lock();
        let begins = state.is_due(written, is_short);
        if begins {
            (state.before, state.written, state.is_under_way) = (0, written, true);
        }
        begins
    }

    /// Notes that one was written. Returns how many bytes of frames had been written since the start when it began.
    pub(super) fn ended(&self, snapshots: &Snapshots) -> u64 {
        let mut state = self.0.lock();
        (state.length, state.due_after) = (snapshots.length, snapshots.due_after());
        (state.is_under_way, state.not_before) = (false, None);
        state.written
    }

    /// Notes that one could not be written.
    pub(super) fn failed(&self) {
        let mut state = self.0.lock();
        state.before = state.due_after;
        (state.is_under_way, state.not_before) = (false, Some(Instant::now() + RETRY));
    }
}

impl State {
    fn is_due(&self, written: u64, is_short: bool) -> bool {
        let since = self.before + written - self.written;
        let after =
            if is_short { self.due_after.min(self.length + WORTH_BYTES) } else { self.due_after };
        !self.is_under_way
            && since >= after
            && self.not_before.is_none_or(|at| at <= Instant::now())
    }
}
