//! Carrying out what is queued for a shard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{info, warn};

use super::failure::{Failure, REPEAT_AFTER, UNAVAILABLE};
use super::lane::{Group, Job, Sent};
use super::library::Function;
use super::pool::Pool;
use super::state::Shared;
use super::wire::{Malformed, Reader, Writer};
use crate::error::Error;
use crate::time::{Clock, Timestamp};

/// What a call answers before the answers of its operations.
const DONE: u8 = 0;
const LATE: u8 = 1;

/// Whether a call may open its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// It must be open.
    No = 0,
    /// It was open, and is lost: what was leased is not known any more.
    Again = 1,
    /// It is new.
    First = 2,
}

/// How a call has ended.
enum Called {
    /// The answers of the operations begin there.
    Done(Vec<u8>, usize, Timestamp),
    /// It came too late, and was not carried out.
    Late,
    NotOpen,
}

impl<C: Clock> Shared<C> {
    /// Queues operations for a shard, and sees to it that they are carried out. It does not block.
    pub(super) fn push(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        lane: usize,
        jobs: impl IntoIterator<Item = Job>,
    ) {
        if pool.lanes[lane].push(jobs) {
            let (shared, pool) = (Arc::clone(self), Arc::clone(pool));
            self.runtime.spawn(async move { shared.drive(&pool, lane).await });
        }
    }

    async fn drive(self: &Arc<Self>, pool: &Arc<Pool>, lane: usize) {
        while let Some(group) = pool.lanes[lane].next_group(self.link.waits_for_replicas()) {
            self.carry_out(pool, lane, group).await;
        }
    }

    /// Carries out a group. If the shard does not answer in time, the operations fail, and whatever they have done is
    /// found out before anything else is sent: the number of the call lets it be repeated.
    async fn carry_out(self: &Arc<Self>, pool: &Arc<Pool>, number: usize, mut group: Group) {
        let lane = &pool.lanes[number];
        let began = Instant::now();
        let (mut opening, mut is_open_to_doubt, mut has_failed) = (Opening::No, false, false);
        let mut deadline_ms = lane.deadline_ms(self.link.timeout);
        let mut pause = REPEAT_AFTER;
        loop {
            let left = self.link.timeout.saturating_sub(began.elapsed());
            let within = if has_failed { self.link.timeout } else { left };
            match self.call(pool, number, &group.sent, deadline_ms, opening, within).await {
                Ok(Called::Done(answer, at, now)) => {
                    Self::note_up(pool, number);
                    if self.dispatch(pool, number, &mut group, &answer[at..], now).await.is_err() {
                        warn!("an answer of the store is not what it should be");
                        group.fail(UNAVAILABLE);
                    }
                    return;
                }
                Ok(Called::Late) => {
                    Self::note_up(pool, number);
                    if has_failed {
                        return;
                    }
                    // The clock there was set, or what was sent has waited; it was not carried out.
                    is_open_to_doubt = false;
                    deadline_ms =
                        lane.deadline_ms(self.link.timeout.saturating_sub(began.elapsed()));
                }
                Ok(Called::NotOpen) => match self.is_still_there(pool).await {
                    Ok(true) => opening = Opening::Again,
                    Ok(false) => {
                        Self::note_up(pool, number);
                        group.fail(Error::NoSuchPool);
                        return;
                    }
                    Err(_) => {}
                },
                Err(Failure::Full) if !is_open_to_doubt => {
                    group.fail(Error::StorageFull);
                    return;
                }
                Err(failure) => is_open_to_doubt |= failure == Failure::Unknown,
            }
            if began.elapsed() < self.link.timeout {
                sleep(pause.min(self.link.timeout.saturating_sub(began.elapsed()))).await;
                continue;
            }
            if !has_failed {
                has_failed = true;
                if pool.note_down() {
                    warn!("pool {}: the store does not answer, or some of it", pool.name);
                }
                group.fail(UNAVAILABLE);
                lane.note_down(true);
                // Those that wait may have to be told.
                pool.line.note_news();
            }
            pause = (2 * pause).min(Duration::from_millis(500));
            sleep(pause).await;
        }
    }

    /// Notes that a shard answers.
    fn note_up(pool: &Pool, lane: usize) {
        if pool.lanes[lane].is_down() {
            pool.lanes[lane].note_down(false);
            if pool.note_up() {
                info!("pool {}: all of the store answers again", pool.name);
            }
            // Another node may have it by now.
            pool.lanes[lane].set_heard(false);
            pool.line.note_news();
        }
    }

    async fn call(
        &self,
        pool: &Pool,
        lane: usize,
        sent: &Sent,
        deadline_ms: u64,
        opening: Opening,
        within: Duration,
    ) -> Result<Called, Failure> {
        let lane = &pool.lanes[lane];
        let longest_ms = pool.settings().lease_ms_max;
        let head = self.head(sent.number, deadline_ms, longest_ms, opening, Timestamp::default());
        let mut arguments = vec![head.as_bytes()];
        arguments.extend(sent.operations.iter().map(Vec::as_slice));
        let function = if sent.grows { Function::Grow } else { Function::Run };
        let answer = self.link.call(function, &lane.key, &arguments, within).await?;
        let mut reader = Reader::new(&answer);
        let read = |reader: &mut Reader<'_>| {
            Ok::<_, Malformed>((reader.byte()?, reader.time()?, reader.byte()?))
        };
        let Ok((status, now, _)) = read(&mut reader) else {
            return Err(Failure::Unknown);
        };
        lane.note_time(now);
        self.note_seen(now);
        Ok(match status {
            DONE => Called::Done(answer, 7, now),
            LATE => Called::Late,
            _ => Called::NotOpen,
        })
    }

    async fn dispatch(
        self: &Arc<Self>,
        pool: &Pool,
        lane: usize,
        group: &mut Group,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<(), Malformed> {
        let mut reader = Reader::new(answer);
        for _ in 0..reader.size::<2>()? {
            // Before anybody is told: who has given a key back may lease another one.
            let (name, nonce) = (reader.text::<1>()?, reader.number::<8>()?);
            self.give_quota(name, nonce).await;
        }
        group.read(&mut reader, &pool.lanes[lane], now)?;
        if reader.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Opens a shard of a new pool, at the time of the table of pools or later.
    pub(super) async fn open_shard(
        &self,
        pool: &Pool,
        lane: usize,
        at_least: Timestamp,
    ) -> Result<(), Error> {
        let head = self.head(0, 0, 0, Opening::First, at_least);
        let key = &pool.lanes[lane].key;
        self.link.ask(Function::Grow, key, &[head.as_bytes()]).await.map(drop)
    }

    /// What comes first in a call: see `HEAD` in `lua/run.lua`.
    fn head(
        &self,
        number: u64,
        deadline_ms: u64,
        longest_ms: u32,
        opening: Opening,
        at_least: Timestamp,
    ) -> Writer {
        Writer::bare()
            .bytes(&self.me)
            .number::<6>(number)
            .number::<5>(deadline_ms)
            .number::<4>(longest_ms.into())
            .number::<1>(opening as u64)
            .number::<5>(at_least.as_ms())
    }
}
