//! Serving those that wait: all shards are looked at, and whoever is first gets a key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::draw::{Aim, Flight};
use super::execute::Batch;
use super::failure::UNAVAILABLE;
use super::lane::{Job, Kind};
use super::line::Snapshot;
use super::pool::Pool;
use super::state::Shared;
use super::wire::{Code, Malformed, Read, Reader, Writer};
use crate::error::Error;
use crate::key::Label;
use crate::time::{Clock, Timestamp};

/// How long shards tell of keys that become free, in milliseconds.
const WATCH_MS: u64 = 30_000;

/// What a shard has said when it was looked at.
struct Look {
    lane: usize,
    now: Timestamp,
    /// Whether it may have free keys of which it does not know that: its primary is new.
    is_unsure: bool,
    free: u32,
    /// When a key may be free, or [`Timestamp::NEVER`].
    next: Timestamp,
    /// How many keys are free with each of the labels.
    labeled: Vec<u32>,
}

impl<C: Clock> Shared<C> {
    /// Starts the task that serves the line of a pool.
    pub(super) fn start_serving(self: &Arc<Self>, pool: &Arc<Pool>) {
        let (shared, pool) = (Arc::clone(self), Arc::clone(pool));
        self.runtime.spawn(async move { shared.serve(&pool).await });
    }

    async fn serve(self: &Arc<Self>, pool: &Arc<Pool>) {
        while let Some(snapshot) = pool.line.snapshot() {
            let began = self.clock.now();
            let next = self.serve_round(pool, &snapshot, began).await;
            if !pool.line.rest(&snapshot) {
                continue;
            }
            let end = pool.line.next_end().unwrap_or(Timestamp::NEVER);
            let wake = end.min(next);
            tokio::select! {
                () = pool.line.bell.notified() => {}
                () = self.clock.sleep_until(wake) => {}
                () = sleep(Duration::from_millis(WATCH_MS)) => {}
            }
        }
    }

    /// Looks at all shards, and serves the first of those that wait for whom there is a key. Returns when the next key may be free, by the clock
    /// of this server.
    async fn serve_round(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        snapshot: &Snapshot,
        began: Timestamp,
    ) -> Timestamp {
        let mut labels = BTreeSet::<Label>::new();
        let mut waits = false;
        for number in &snapshot.numbers {
            pool.line.with(*number, |entry| {
                labels.extend(entry.leasing.label.clone());
                waits |= entry.waits();
            });
        }
        if waits {
            // Before the look: what becomes free behind it is heard.
            self.hear_of(pool).await;
        }
        let labels: Vec<Label> = labels.into_iter().collect();
        let mut looks = self.look_at_all(pool, &labels, waits).await;
        self.refuse_beyond_quotas(pool, &snapshot.numbers).await;
        let is_whole = looks.len() == pool.lanes.len() && !looks.iter().any(|look| look.is_unsure);
        let flight = Arc::new(Flight::default());
        // One for this task, so that it does not end before all are sent.
        flight.left.store(1, SeqCst);
        let (mut missing, mut batch) = (Vec::new(), Batch::default());
        let mut lengths = Vec::new();
        for number in &snapshot.numbers {
            let Some(label) = pool.line.with(*number, |entry| entry.leasing.label.clone()) else {
                continue;
            };
            let place = label.map(|label| labels.binary_search(&label).expect("it was collected"));
            let Some(at) = choose(&looks, place) else {
                missing.push(*number);
                continue;
            };
            let Some(mut entry) = pool.line.take(*number) else { continue };
            if let Err(error) = self.take_quota(&mut entry).await {
                self.end(pool, entry, error);
                continue;
            }
            let look = &mut looks[at];
            look.free -= 1;
            if let Some(place) = place {
                look.labeled[place] -= 1;
            }
            lengths.push(u64::from(entry.lease_ms));
            flight.left.fetch_add(1, SeqCst);
            let aim = Aim::of_flight(look.lane, Arc::clone(&flight));
            let job = self.asking(pool, &entry, *number, aim);
            pool.line.send(*number, entry);
            batch.add(pool, look.lane, job);
        }
        self.flush(batch);
        if flight.left.fetch_sub(1, SeqCst) > 1 {
            flight.bell.notified().await;
        }
        let known = looks.iter().filter(|look| !look.next.is_never());
        let next_ms = known.map(|look| look.next.ms_since(look.now)).chain(lengths).min();
        self.end_in_vain(pool, &missing, began, is_whole, next_ms);
        next_ms.map_or(Timestamp::NEVER, |ms| began.plus_ms(ms))
    }

    /// Refuses those for whom no key was found and whose time was up when the look began.
    fn end_in_vain(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        missing: &[u64],
        began: Timestamp,
        is_whole: bool,
        next_ms: Option<u64>,
    ) {
        for number in missing {
            let is_over = pool.line.with(*number, |entry| !entry.waits() || entry.until <= began);
            if is_over != Some(true) {
                pool.line.note_waits(*number);
                continue;
            }
            let Some(entry) = pool.line.take(*number) else { continue };
            // A shard that is silent may have one.
            let error =
                if is_whole { Error::Exhausted { retry_after_ms: next_ms } } else { UNAVAILABLE };
            self.end(pool, entry, error);
        }
    }

    /// Asks all shards that answer how many free keys they have.
    async fn look_at_all(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        labels: &[Label],
        waits: bool,
    ) -> Vec<Look> {
        let mut operation = Writer::new(Code::Look).number::<4>(if waits { WATCH_MS } else { 0 });
        for label in labels {
            operation = operation.counted::<2>(label.as_str().as_bytes());
        }
        let kind = if waits { Kind::Change } else { Kind::Look };
        let count = labels.len();
        let looks = (0..pool.lanes.len()).map(|lane| {
            let (sender, receiver) = oneshot::channel();
            let read = move |reader: &mut Reader<'_>, now| {
                let is_unsure = reader.byte()? == 1;
                let free = u32::try_from(reader.number::<4>()?).map_err(|_| Malformed)?;
                let next = reader.time()?;
                let labeled =
                    (0..count).map(|_| u32::try_from(reader.number::<4>()?).map_err(|_| Malformed));
                let labeled = labeled.collect::<Read<_>>()?;
                Ok(Ok(Look { lane, now, is_unsure, free, next, labeled }))
            };
            let job = Job::new(operation.clone(), kind, read, move |look| drop(sender.send(look)));
            self.push(pool, lane, [job]);
            receiver
        });
        let looks: Vec<_> = looks.collect();
        let looks = join_all(looks).await.into_iter();
        let looks: Vec<Look> = looks.filter_map(|look| look.ok()?.ok()).collect();
        for look in &looks {
            pool.lanes[look.lane].set_known(look.free);
        }
        pool.note_look();
        looks
    }
}

/// A shard, in proportion to its free keys, or to those with one of the labels. `None` if there is none.
fn choose(looks: &[Look], label: Option<usize>) -> Option<usize> {
    let free =
        |look: &Look| u64::from(label.map_or(look.free, |at| look.labeled[at].min(look.free)));
    let sum: u64 = looks.iter().map(free).sum();
    if sum == 0 {
        return None;
    }
    let mut at = rand::rng().random_range(0..sum);
    looks.iter().position(|look| {
        let free = free(look);
        let is_there = at < free;
        at = at.wrapping_sub(free);
        is_there
    })
}
