//! A shard of a pool, and the operations that are on their way to it: one call at a time. What gathers meanwhile is the
//! next call, so calls grow with the load.

use std::mem::take;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::failure::UNAVAILABLE;
use super::wire::{Read, Reader, Writer};
use crate::error::Error;
use crate::time::Timestamp;

/// The most operations, and about the most bytes, of one call. A call of so many takes the engine about a millisecond: the ids of 256
/// keys that are created have so many bytes.
const GROUP_MAX: usize = 128;
const GROUP_BYTES_MAX: usize = 5 * 1024;
/// The number of the next call of this process, to whichever shard: a shard refuses one that is smaller than the last.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The most operations that wait for a shard; further ones are refused.
const QUEUE_MAX: usize = 100_000;

/// Receives the answer of an operation.
pub(super) trait Answered: Send {
    /// Reads exactly what the operation has answered. If it had failed before, the answer came too late.
    fn read(&mut self, reader: &mut Reader<'_>, now: Timestamp) -> Read<()>;

    /// It has failed, or at least its answer has not come in time.
    fn fail(&mut self, error: Error);
}

/// An operation, and what receives its answer.
pub(super) struct Job {
    pub(super) operation: Writer,
    /// The dart and the bound of a lease. Leases that are alike are sent as one operation.
    pub(super) dart: Option<(u64, u32)>,
    pub(super) kind: Kind,
    pub(super) answered: Box<dyn Answered>,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes nothing.
    Look,
    /// It may change something.
    Change,
    /// It needs memory of the engine.
    Grow,
}

/// A shard.
pub(super) struct Lane {
    /// The key of its state, which names it.
    pub(super) key: Vec<u8>,
    /// How many free keys it had when it was last asked.
    known: AtomicU32,
    /// Whether this server hears of its keys that become free.
    is_heard: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: Vec<Job>,
    /// Whether a task carries out what is queued.
    is_running: bool,
    /// Whether it does not answer.
    is_down: bool,
    /// The time that the last answer told, and when that was here.
    clock: Option<(u64, Instant)>,
}

/// What is sent together.
pub(super) struct Group {
    jobs: Vec<Job>,
    pub(super) sent: Sent,
}

/// A call as it is sent.
pub(super) struct Sent {
    pub(super) operations: Vec<Vec<u8>>,
    /// 0 if it writes nothing.
    pub(super) number: u64,
    pub(super) grows: bool,
}

impl Lane {
    pub(super) fn new(key: Vec<u8>) -> Self {
        let (known, is_heard, inner) = Default::default();
        Self { key, known, is_heard, inner }
    }

    /// How many free keys it is known to have had. O(1).
    pub(super) fn known(&self) -> u32 {
        self.known.load(Relaxed)
    }

    pub(super) fn set_known(&self, free: u32) {
        self.known.store(free, Relaxed);
    }

    /// Reads how many free keys there are, if that is told.
    pub(super) fn read_known(&self, reader: &mut Reader<'_>) -> Read<()> {
        let free = u32::try_from(reader.number::<4>()?).unwrap_or(u32::MAX);
        if free != u32::MAX {
            self.set_known(free);
        }
        Ok(())
    }

    pub(super) fn is_heard(&self) -> bool {
        self.is_heard.load(Relaxed)
    }

    pub(super) fn set_heard(&self, is_heard: bool) {
        self.is_heard.store(is_heard, Relaxed);
    }

    /// A key was made free.
    pub(super) fn add_known(&self, keys: u32) {
        self.known.fetch_add(keys, Relaxed);
    }

    /// Queues operations. True if the caller has to start [`super::drive`] for them. If the shard does not answer, they fail at once.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) -> bool {
        let mut inner = self.inner.lock();
        let mut refused = Vec::new();
        for job in jobs {
            if inner.is_down || inner.queue.len() >= QUEUE_MAX {
                refused.push(job);
            } else {
                inner.queue.push(job);
            }
        }
        let is_first = !inner.is_running && !inner.queue.is_empty();
        inner.is_running |= is_first;
        drop(inner);
        for mut job in refused {
            job.answered.fail(UNAVAILABLE);
        }
        is_first
    }

    /// The operations of the next call. `None` if there is nothing to do: then the task ends. `WAIT` waits for what its connection
    /// has written. So where replicas are waited for a look writes, too: it may show what no replica has yet.
    pub(super) fn next_group(&self, waits_for_replicas: bool) -> Option<Group> {
        let mut inner = self.inner.lock();
        let Some(first) = inner.queue.first() else {
            inner.is_running = false;
            return None;
        };
        let grows = first.kind == Kind::Grow;
        let (mut bytes, mut count) = (0, 0);
        for job in &inner.queue {
            bytes += job.operation.len();
            if (job.kind == Kind::Grow) != grows
                || count == GROUP_MAX
                || count > 0 && bytes > GROUP_BYTES_MAX
            {
                break;
            }
            count += 1;
        }
        let rest = inner.queue.split_off(count);
        let jobs = std::mem::replace(&mut inner.queue, rest);
        let changes = waits_for_replicas || jobs.iter().any(|job| job.kind != Kind::Look);
        let number = if changes { NEXT.fetch_add(1, Relaxed) } else { 0 };
        drop(inner);
        let operations = operations_of(&jobs);
        Some(Group { jobs, sent: Sent { operations, number, grows } })
    }

    /// When a call that is sent now must have been carried out, by the clock of the shard; 0 if that is not known.
    pub(super) fn deadline_ms(&self, timeout: Duration) -> u64 {
        let clock = self.inner.lock().clock;
        clock.map_or(0, |(then_ms, at)| {
            then_ms + u64::try_from((at.elapsed() + timeout).as_millis()).unwrap_or(0)
        })
    }

    /// Notes what time the shard has told.
    pub(super) fn note_time(&self, now: Timestamp) {
        self.inner.lock().clock = Some((now.as_ms(), Instant::now()));
    }

    /// Notes whether the shard answers. All that is queued fails if it does not.
    pub(super) fn note_down(&self, is_down: bool) {
        let mut inner = self.inner.lock();
        inner.is_down = is_down;
        let failed = if is_down { take(&mut inner.queue) } else { Vec::new() };
        drop(inner);
        for mut job in failed {
            job.answered.fail(UNAVAILABLE);
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.inner.lock().is_down
    }
}

/// The operations as they are sent: leases that are alike and follow one another are one.
fn operations_of(jobs: &[Job]) -> Vec<Vec<u8>> {
    let is_alike = |a: &Job, b: &Job| {
        a.dart.is_some() && b.dart.is_some() && a.operation.as_bytes() == b.operation.as_bytes()
    };
    let run = |run: &[Job]| {
        let Some(_) = run[0].dart else { return run[0].operation.clone().finish() };
        let counted = run[0].operation.clone().number::<2>(run.len() as u64);
        let darts = run.iter().filter_map(|job| job.dart);
        let all = darts.fold(counted, |writer, (dart, bound)| {
            writer.number::<6>(dart).number::<4>(bound.into())
        });
        all.finish()
    };
    jobs.chunk_by(is_alike).map(run).collect()
}

impl Group {
    /// Gives each operation its answer.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        lane: &Lane,
        now: Timestamp,
    ) -> Read<()> {
        let mut left = self.jobs.as_mut_slice();
        while let Some((job, rest)) = left.split_first_mut() {
            job.answered.read(reader, now)?;
            let is_last = job.dart.is_some()
                && rest.first().is_none_or(|next| {
                    next.dart.is_none() || next.operation.as_bytes() != job.operation.as_bytes()
                });
            if is_last {
                lane.read_known(reader)?;
            }
            left = rest;
        }
        Ok(())
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.jobs.iter_mut().for_each(|job| job.answered.fail(error));
    }
}

/// Receives the answer of an operation that has one reading, and one receiver.
struct Plain<T, R, D> {
    read: R,
    done: Option<D>,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T, R, D> Answered for Plain<T, R, D>
where
    R: FnMut(&mut Reader<'_>, Timestamp) -> Read<Result<T, Error>> + Send,
    D: FnOnce(Result<T, Error>) + Send,
{
    fn read(&mut self, reader: &mut Reader<'_>, now: Timestamp) -> Read<()> {
        let answer = (self.read)(reader, now)?;
        if let Some(done) = self.done.take() {
            done(answer);
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        if let Some(done) = self.done.take() {
            done(Err(error));
        }
    }
}

impl Job {
    /// An operation whose answer `read` reads and `done` receives.
    pub(super) fn new<T: 'static>(
        operation: Writer,
        kind: Kind,
        read: impl FnMut(&mut Reader<'_>, Timestamp) -> Read<Result<T, Error>> + Send + 'static,
        done: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) -> Self {
        let answered = Plain { read, done: Some(done), of: std::marker::PhantomData };
        Self { operation, dart: None, kind, answered: Box::new(answered) }
    }
}
