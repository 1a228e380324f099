//! The threads of a journal: one commits, one flushes each second if that is enough, one makes segments, and one writes
//! snapshots. None of them is one that serves clients.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tracing::{error, info, warn};

use super::committer::{Committer, SnapshotStart};
use super::handle::Journal;
use super::open::Begun;
use super::snapshots::{Snapshots, Source};
use super::spares::Spares;
use super::writer::WriteError;

/// When to try again what a full disk does not take.
const RETRY: Duration = Duration::from_millis(200);
/// When to write a snapshot after one that failed.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(30);

/// The running threads.
pub(crate) struct Threads {
    is_stopped: Arc<AtomicBool>,
    journal: Journal,
    spares: Arc<Spares>,
    committer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// Is told once that the disk has failed. Then nothing is acknowledged any more.
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
        let wish = Arc::new(SnapshotWish::new(&snapshots));
        let mut others = Vec::new();
        let syncer = Arc::clone(&committer.syncer);
        let tell = Arc::clone(&failed);
        others.push(spawn("flush", move || syncer.run(|error| tell(error)))?);
        let of_segments = Arc::clone(&spares);
        others.push(spawn("segments", move || make_segments(&of_segments))?);
        let (of_snapshots, is_over) = (Arc::clone(&spares), Arc::clone(&is_stopped));
        let (of_journal, of_source) = (journal.clone(), Arc::clone(&source));
        let wished = Arc::clone(&wish);
        others.push(spawn("snapshot", move || {
            write_snapshots(
                &to_write,
                snapshots,
                &*of_source,
                &of_journal,
                &of_snapshots,
                &wished,
                &is_over,
            );
        })?);
        let (of_committer, is_over) = (journal.clone(), Arc::clone(&is_stopped));
        let committer = spawn("commit", move || {
            commit(committer, &of_committer, &*source, &starts, &wish, &is_over, &*failed);
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

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(run)
}

/// Lets others go first: what this thread does can wait.
fn step_back() {
    // If the system does not allow it, the thread takes its share.
    let _ = setpriority_process(Some(gettid()), 19);
}

/// When a snapshot is due.
struct SnapshotWish(Mutex<Wish>);

struct Wish {
    /// How many bytes of frames there were since the last one when the server started.
    before: u64,
    /// How many had been written since then when the last one began.
    written: u64,
    due_after: u64,
    is_under_way: bool,
    not_before: Option<Instant>,
}

impl SnapshotWish {
    fn new(snapshots: &Snapshots) -> Self {
        Self(Mutex::new(Wish {
            before: snapshots.frame_bytes,
            written: 0,
            due_after: snapshots.due_after(),
            is_under_way: false,
            not_before: None,
        }))
    }

    /// Whether one was due when the server started.
    fn is_due(&self) -> bool {
        let wish = self.0.lock();
        wish.before >= wish.due_after
    }

    /// Whether one is to begin now.
    fn begin(&self, written: u64) -> bool {
        let mut wish = self.0.lock();
        let since = wish.before + written - wish.written;
        let may = wish.not_before.is_none_or(|at| at <= Instant::now());
        let begins = !wish.is_under_way && since >= wish.due_after && may;
        if begins {
            (wish.before, wish.written, wish.is_under_way) = (0, written, true);
        }
        begins
    }

    fn ended(&self, due_after: u64) {
        let mut wish = self.0.lock();
        (wish.due_after, wish.is_under_way, wish.not_before) = (due_after, false, None);
    }

    fn failed(&self) {
        let mut wish = self.0.lock();
        wish.before = wish.due_after;
        (wish.is_under_way, wish.not_before) = (false, Some(Instant::now() + SNAPSHOT_RETRY));
    }
}

fn commit(
    mut committer: Committer,
    journal: &Journal,
    source: &dyn Source,
    starts: &Sender<SnapshotStart>,
    wish: &SnapshotWish,
    is_stopped: &AtomicBool,
    failed: &Failed,
) {
    let progress = &journal.progress;
    if wish.is_due() {
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
            let wants_pools = wish.begin(progress.written());
            committer.commit(source.now(), wants_pools).map(|start| {
                // It fails only once the server ends.
                if let Some(start) = start {
                    let _ = starts.send(start);
                }
            })
        } else {
            if !is_called {
                thread::park();
            }
            continue;
        };
        note_room(&committer, source, outcome.as_ref().err());
        match outcome {
            Ok(()) if is_stopped => break,
            Ok(()) => {}
            // Nobody waits for long: without room, the server ends without what could not be written.
            Err(WriteError::NoRoom) if is_stopped && committer.spares.is_in_trouble() => break,
            Err(WriteError::NoRoom) => committer.spares.wait(false, RETRY),
            Err(WriteError::Disk(error)) => {
                failed(&error);
                break;
            }
        }
    }
    committer.syncer.close();
}

/// Notes whether the disk has room for changes.
fn note_room(committer: &Committer, source: &dyn Source, error: Option<&WriteError>) {
    let is_full = matches!(error, Some(WriteError::NoRoom)) && committer.spares.is_in_trouble()
        || committer.is_short_of_room();
    if committer.progress.set_full(is_full) != is_full {
        if is_full {
            error!(
                "the disk is full: requests that change something are refused with 503 until it has room"
            );
        } else {
            info!("the disk has room again");
            source.has_room();
        }
    }
}

fn make_segments(spares: &Spares) {
    step_back();
    while !spares.is_closed() {
        if spares.has_one() {
            spares.wait(true, Duration::from_mins(1));
            continue;
        }
        let was_in_trouble = spares.is_in_trouble();
        if let Err(error) = spares.prepare() {
            if !was_in_trouble && !spares.is_closed() {
                warn!("no further segment of the journal can be made: {error}");
            }
            spares.wait(false, RETRY);
        }
    }
}

fn write_snapshots(
    starts: &Receiver<SnapshotStart>,
    mut snapshots: Snapshots,
    source: &dyn Source,
    journal: &Journal,
    spares: &Spares,
    wish: &SnapshotWish,
    is_stopped: &AtomicBool,
) {
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
                wish.ended(snapshots.due_after());
            }
            Ok(false) => snapshots.give_up(),
            Err(error) => {
                warn!("no snapshot can be written: {error}; the journal grows until one can");
                snapshots.give_up();
                wish.failed();
            }
        }
    }
}
