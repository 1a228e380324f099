//! Flushing, also by a thread of its own while the next frames are written.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::{DiskFile, that};
use super::progress::Progress;

/// How long something may be written and not on disk.
const AGE_MAX: Duration = Duration::from_secs(1);
/// After how long the thread flushes it.
const AGE: Duration = Duration::from_millis(500);

/// What to say if a flush fails.
const FAILED: &str = "the journal cannot be flushed";

/// Flushes what was written.
pub(crate) struct Syncer {
    progress: Arc<Progress>,
    state: Mutex<State>,
    changed: Condvar,
    /// Held during a flush, and whether one has failed.
    has_failed: Mutex<bool>,
}

#[derive(Default)]
struct State {
    /// The last frame that was written, and its file.
    last: Option<(u64, Arc<dyn DiskFile>)>,
    /// When the first frame was written that no flush has begun for.
    since: Option<Instant>,
    /// The same for the flush that is under way.
    flushing_since: Option<Instant>,
    error: Option<io::Error>,
    /// Whether the thread runs that flushes. Without it nobody waits for it.
    is_running: bool,
    is_closed: bool,
}

impl Syncer {
    pub(crate) fn new(progress: Arc<Progress>) -> Self {
        Self {
            progress,
            state: Mutex::default(),
            changed: Condvar::new(),
            has_failed: Mutex::default(),
        }
    }

    /// Flushes a file, which has all frames up to `sequence`.
    ///
    /// # Errors
    ///
    /// As the disk says: see [`DiskFile::sync`].
    pub(crate) fn sync(&self, sequence: u64, file: &Arc<dyn DiskFile>) -> io::Result<()> {
        self.flush(&**file)?;
        self.progress.set_durable(sequence);
        let mut state = self.state.lock();
        if state.last.as_ref().is_some_and(|(last, _)| *last <= sequence) {
            (state.last, state.since) = (None, None);
        }
        Ok(())
    }

    /// One flush at a time: Linux tells of an error once, and then another one would succeed.
    fn flush(&self, file: &dyn DiskFile) -> io::Result<()> {
        let mut has_failed = self.has_failed.lock();
        if *has_failed {
            return Err(io::Error::other("an earlier flush has failed"));
        }
        let flushed = file.sync().map_err(that(FAILED));
        *has_failed = flushed.is_err();
        flushed
    }

    /// Notes that a frame was written, and waits if the disk is so slow that an earlier one is about to be older than a
    /// second.
    ///
    /// # Errors
    ///
    /// What the disk has said to the thread.
    pub(crate) fn wrote(&self, sequence: u64, file: Arc<dyn DiskFile>) -> io::Result<()> {
        let mut state = self.state.lock();
        state.last = Some((sequence, file));
        if state.since.is_none() {
            state.since = Some(Instant::now());
            self.changed.notify_all();
        }
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            let oldest = state.flushing_since.or(state.since);
            if !state.is_running || oldest.is_none_or(|since| since.elapsed() < AGE_MAX) {
                return Ok(());
            }
            self.changed.wait(&mut state);
        }
    }

    /// Flushes half a second after something was written, until [`Syncer::close`].
    ///
    /// # Errors
    ///
    /// As the disk says. The committer gets an error, too.
    pub(crate) fn run(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.is_running = true;
        while !state.is_closed {
            let Some(since) = state.since else {
                self.changed.wait(&mut state);
                continue;
            };
            let age = since.elapsed();
            if age < AGE {
                self.changed.wait_for(&mut state, AGE.saturating_sub(age));
                continue;
            }
            let Some((sequence, file)) = state.last.take() else {
                state.since = None;
                continue;
            };
            state.flushing_since = state.since.take();
            drop(state);
            let flushed = self.flush(&*file);
            state = self.state.lock();
            state.flushing_since = None;
            match flushed {
                Ok(()) => self.progress.set_durable(sequence),
                Err(error) => {
                    state.error = Some(io::Error::new(error.kind(), error.to_string()));
                    self.changed.notify_all();
                    return Err(error);
                }
            }
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}
