//! The threads of a journal: one commits, one flushes each second if that is enough, one makes segments, and one writes
//! snapshots. None of them is one that serves clients.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tracing::{error, info, warn};

use super::committer::{Committer, SnapshotStart};
use super::disk::{may_pass, that};
use super::due::SnapshotDue;
use super::handle::Journal;
use super::open::Begun;
use super::snapshots::{Snapshots, Source};
use super::spares::Spares;
use super::syncer::Syncer;
use super::writer::WriteError;

/// When to try again what a full disk does not take.
const RETRY: Duration = Duration::from_millis(200);

/// The running threads.
pub(crate) struct Threads {
    is_stopped: Arc<AtomicBool>,
    journal: Journal,
    spares: Arc<Spares>,
    committer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// Is told once that the disk has failed, or a thread. Then nothing is acknowledged any more.
pub(crate) type Failed = dyn Fn(&io::Error) + Send + Sync;

impl Threads {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If the system has no more threads.
    pub(crate) fn start(
        begun: Begun,
        journal: Journal,
        source: Arc<dyn Source + Send + Sync>,
        failed: Arc<Failed>,
    ) -> io::Result<Self> {
        let Begun { committer, snapshots } = begun;
        let is_stopped = Arc::<AtomicBool>::default();
        let spares = Arc::clone(&committer.spares);
        let (starts, to_write) = channel();
        let due = Arc::new(SnapshotDue::new(&snapshots));
        let mut others = Vec::new();
        let (is_told, tell) = (AtomicBool::new(false), failed);
        let failed: Arc<Failed> = Arc::new(move |error: &io::Error| {
            if !is_told.swap(true, SeqCst) {
                tell(error);
            }
        });
        let syncer = Arc::clone(&committer.syncer);
        others.push(spawn("flush", &failed, move || syncer.run())?);
        let of_segments = Arc::clone(&spares);
        others.push(spawn("segments", &failed, move || {
            let ended = make_segments(&of_segments);
            // Nobody waits for a segment that nobody makes.
            of_segments.close();
            ended
        })?);
        let (of_snapshots, is_over) = (Arc::clone(&spares), Arc::clone(&is_stopped));
        let (of_journal, of_source) = (journal.clone(), Arc::clone(&source));
        let is_due = Arc::clone(&due);
        others.push(spawn("snapshot", &failed, move || {
            write_snapshots(
                &to_write,
                snapshots,
                &*of_source,
                &of_journal,
                &of_snapshots,
                &is_due,
                &is_over,
            )
        })?);
        let (of_committer, is_over) = (journal.clone(), Arc::clone(&is_stopped));
        let committer = spawn("commit", &failed, move || {
            // However this one ends.
            let _ends = EndOfSyncer(Arc::clone(&committer.syncer));
            commit(committer, &of_committer, &*source, &starts, &due, &is_over)
        })?;
        journal.progress.set_committer(committer.thread().clone());
        // It may have been called before.
        committer.thread().unpark();
        Ok(Self { is_stopped, journal, spares, committer, others })
    }

    /// Commits what is left, and ends the threads.
    pub(crate) fn close(self) {
        self.is_stopped.store(true, SeqCst);
        self.journal.progress.call();
        self.committer.thread().unpark();
        // A panic was logged.
        let _ = self.committer.join();
        // Not before: the last frames may need a segment that is just being made.
        self.spares.close();
        self.others.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Starts a thread. If it ends with an error or a panic, `failed` is told: without it the others would wait for ever.
fn spawn(
    name: &'static str,
    failed: &Arc<Failed>,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let failed = Arc::clone(failed);
    Builder::new().name(name.to_owned()).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Err(io::Error::other(format!("the thread {name:?} of the journal has panicked")))
        });
        if let Err(error) = ended {
            failed(&error);
        }
    })
}

/// Ends the thread that flushes.
struct EndOfSyncer(Arc<Syncer>);

impl Drop for EndOfSyncer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Lets others go first: what this thread does can wait.
fn step_back() {
    // If the system does not allow it, the thread takes its share.
    let _ = setpriority_process(Some(gettid()), 19);
}

fn commit(
    mut committer: Committer,
    journal: &Journal,
    source: &dyn Source,
    starts: &Sender<SnapshotStart>,
    due: &SnapshotDue,
    is_stopped: &AtomicBool,
) -> io::Result<()> {
    let progress = &journal.progress;
    // A client that gets an answer, and changes something then, is refused if it is known that there is little room.
    let look_ahead = |committer: &Committer| note_room(committer, source, false);
    if due.was_at_start() {
        // Nobody may change anything for long.
        committer.buffers.want_frame();
        progress.call();
    }
    loop {
        let is_stopped = is_stopped.load(SeqCst);
        let is_called = progress.take_call();
        let outcome = if is_stopped {
            committer.close(source.now())
        } else if committer.has_unwritten() || is_called && committer.buffers.is_wanted() {
            // A frame that was gathered before cannot say what a snapshot begins with.
            let wants_pools = !committer.has_unwritten()
                && due.begin(progress.counters.written(), committer.spares.is_in_trouble());
            committer.commit(|| source.now(), wants_pools, &look_ahead).map(|start| {
                // It fails only once the server ends.
                if let Some(start) = start {
                    let _ = starts.send(start);
                }
            })
        } else if progress.is_full() && !is_called {
            // Nobody may call for long.
            thread::park_timeout(RETRY);
            note_room(&committer, source, false);
            if due.is_now(progress.counters.written(), committer.spares.is_in_trouble()) {
                committer.buffers.want_frame();
                progress.call();
            }
            continue;
        } else {
            if !is_called {
                thread::park();
            }
            continue;
        };
        if outcome.is_ok() && committer.is_low() && !is_stopped {
            // Else more might be changed than there is room for.
            committer.spares.wait_for_outcome();
            note_room(&committer, source, false);
        }
        match outcome {
            Ok(()) if is_stopped => return Ok(()),
            Ok(()) => thread::sleep(committer.gathering()),
            // Nobody waits for long: without room, the server ends without what could not be written.
            Err(WriteError::NoRoom) if is_stopped && committer.spares.is_in_trouble() => {
                return Ok(());
            }
            Err(WriteError::NoRoom) => {
                note_room(&committer, source, true);
                committer.spares.wait(false, RETRY);
            }
            Err(WriteError::Disk(error)) => return Err(error),
        }
    }
}

/// Notes whether the disk has room for changes. `is_refused` if a frame was not written for want of it.
fn note_room(committer: &Committer, source: &dyn Source, is_refused: bool) {
    let is_full = is_refused && committer.spares.is_in_trouble() || committer.is_short_of_room();
    if committer.progress.set_full(is_full) != is_full {
        if is_full {
            error!(
                "the disk has no room: requests that change something are refused with 503 until it has"
            );
        } else {
            info!("the disk has room again");
            source.has_room();
        }
    }
}

fn make_segments(spares: &Spares) -> io::Result<()> {
    while !spares.is_closed() {
        if spares.has_one() {
            spares.wait(true, Duration::from_mins(1));
            continue;
        }
        let was_in_trouble = spares.is_in_trouble();
        match spares.prepare() {
            Ok(()) => {}
            Err(_) if spares.is_closed() => break,
            Err(error) if !may_pass(&error) => {
                return Err(that("a segment of the journal cannot be made")(error));
            }
            Err(error) => {
                if !was_in_trouble {
                    warn!("no further segment of the journal can be made: {error}");
                }
                spares.wait(false, RETRY);
            }
        }
    }
    Ok(())
}

fn write_snapshots(
    starts: &Receiver<SnapshotStart>,
    mut snapshots: Snapshots,
    source: &dyn Source,
    journal: &Journal,
    spares: &Spares,
    due: &SnapshotDue,
    is_stopped: &AtomicBool,
) -> io::Result<()> {
    step_back();
    let pause = |time: Duration| {
        thread::sleep(time);
        !is_stopped.load(SeqCst)
    };
    // The committer has the other end, and drops it when it ends.
    for start in starts {
        match snapshots.write(&start, source, journal, spares, pause) {
            Ok(true) => {
                info!("snapshot: {} bytes", snapshots.length);
                let written = due.ended(&snapshots);
                journal.progress.counters.add_snapshot(snapshots.length, written);
            }
            Ok(false) => snapshots.give_up(),
            Err(error) if !may_pass(&error) => {
                return Err(that("a snapshot cannot be written")(error));
            }
            Err(error) => {
                warn!("no snapshot can be written: {error}; the journal grows until one can");
                snapshots.give_up();
                due.failed();
                journal.progress.counters.add_failed_snapshot();
            }
        }
    }
    Ok(())
}
