//! What is known of many keys: counts, lists, and the leases of a holder.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::oneshot;

use super::failure::UNAVAILABLE;
use super::lane::{Job, Kind};
use super::pool::Pool;
use super::state::Shared;
use super::wire::{Code, Malformed, Read, Reader, Writer, id_of, status};
use crate::engine::Totals;
use crate::error::Error;
use crate::key::{Holder, KeyId, KeyInfo, Label, Lease, OwnInfo, State};
use crate::pool::PoolId;
use crate::store::inventory::{Inventory, StateKind, Wanted};
use crate::store::port::Stats;
use crate::time::{Clock, Timestamp};

/// How many keys of a holder are looked at in one step.
const TAKE_BACK_STEP: u64 = 64;
/// How many steps a page of a list takes at most.
const PAGE_STEPS: usize = 64;
/// The most keys of one step.
const PAGE_STEP: usize = 256;

/// In how many steps what is due is handled before all is counted.
const SETTLE_STEPS: usize = 16;

/// What a pool has.
#[derive(Default)]
pub(super) struct Count {
    /// Keys that live.
    pub(super) keys: u64,
    pub(super) value_bytes: u64,
    /// In how many milliseconds the next one dies.
    pub(super) next_death_ms: Option<u64>,
    pub(super) stats: Stats,
}

impl<C: Clock> Shared<C> {
    /// Asks one shard, and waits for its answer.
    pub(super) fn ask_one<T: Send + 'static>(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        lane: usize,
        operation: Writer,
        kind: Kind,
        read: impl FnMut(&mut Reader<'_>, Timestamp) -> Read<Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        let (sender, receiver) = oneshot::channel();
        let job = Job::new(operation, kind, read, move |answer| drop(sender.send(answer)));
        self.push(pool, lane, [job]);
        async move { receiver.await.unwrap_or(Err(UNAVAILABLE)) }
    }

    /// Asks all shards the same, and waits for all answers.
    pub(super) async fn ask_all<T: Send + 'static>(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        operation: &Writer,
        kind: Kind,
        read: impl FnMut(&mut Reader<'_>, Timestamp) -> Read<Result<T, Error>> + Clone + Send + 'static,
    ) -> Vec<Result<T, Error>> {
        let asked = (0..pool.lanes.len())
            .map(|lane| self.ask_one(pool, lane, operation.clone(), kind, read.clone()));
        futures_util::future::join_all(asked.collect::<Vec<_>>()).await
    }

    /// Counts what a pool has.
    pub(super) async fn count(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<Count, Error> {
        let read = |reader: &mut Reader<'_>, now: Timestamp| {
            let is_settled = reader.byte()? == 0;
            let keys = reader.number::<4>()?;
            let next = reader.time()?.unless_never().map(|at| at.ms_since(now));
            let value_bytes = reader.number::<6>()?;
            let mut counts = [0; 10];
            for count in &mut counts {
                *count = reader.number::<6>()?;
            }
            Ok(Ok((is_settled, keys, next, value_bytes, counts)))
        };
        // What is over counts until it was noticed. If much is, it stays so for a while.
        let mut answers = Vec::new();
        for _ in 0..SETTLE_STEPS {
            answers = self.ask_all(pool, &Writer::new(Code::Stats), Kind::Look, read).await;
            if answers.iter().flatten().all(|(is_settled, ..)| *is_settled) {
                break;
            }
        }
        let (mut all, mut sums) = (Count::default(), [0; 10]);
        for answer in answers {
            let (_, keys, next, value_bytes, counts) = answer?;
            all.keys += keys;
            all.value_bytes += value_bytes;
            all.next_death_ms = all.next_death_ms.into_iter().chain(next).min();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let [
            created,
            begun,
            releases,
            lease_timeouts,
            leases_lost,
            expired,
            deleted,
            stale_refusals,
            cool_downs,
            ends,
        ] = sums;
        let totals = Totals {
            created,
            leases: begun,
            releases,
            lease_timeouts,
            leases_lost,
            expired,
            deleted,
            stale_refusals,
        };
        let keys = created.saturating_sub(expired + deleted);
        let leased = begun.saturating_sub(releases + lease_timeouts + leases_lost);
        let cooling = cool_downs.saturating_sub(ends);
        all.stats = Stats {
            keys,
            free: keys.saturating_sub(leased + cooling),
            leased,
            cooling,
            keys_max: pool.settings().keys_max as u64,
            waiting: pool.line.waiting(),
            leases_after_waiting: pool.line.served_after_waiting(),
            totals,
        };
        Ok(all)
    }

    /// Takes back the leases of a holder that have begun before now.
    pub(super) async fn take_back_all(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        holder: &str,
    ) -> Result<u64, Error> {
        let mut taken = 0;
        for lane in 0..pool.lanes.len() {
            let (mut cursor, mut before) = (Vec::new(), Timestamp::MAX);
            loop {
                let operation = Writer::new(Code::TakeBack)
                    .number::<5>(before.as_ms())
                    .counted::<2>(&cursor)
                    .number::<2>(TAKE_BACK_STEP)
                    .counted::<1>(holder.as_bytes());
                let read = |reader: &mut Reader<'_>, now: Timestamp| {
                    let _ = reader.byte()?;
                    Ok(Ok((now, reader.number::<4>()?, reader.counted::<2>()?.to_vec())))
                };
                let (now, some, next) =
                    self.ask_one(pool, lane, operation, Kind::Change, read).await?;
                taken += some;
                before = before.min(now);
                cursor = next;
                if cursor.is_empty() {
                    break;
                }
            }
        }
        pool.line.note_news();
        Ok(taken)
    }

    /// A page of the list of the keys of a pool.
    pub(super) async fn page(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        wanted: Wanted<'_>,
    ) -> Result<Inventory, Error> {
        let cursor = wanted.cursor.map_or(Ok(Cursor::default()), |text| {
            Cursor::decode(text).ok_or(Error::MalformedCursor)
        });
        let mut next = Some(cursor?);
        let mut found = Vec::new();
        for _ in 0..PAGE_STEPS {
            let Some(cursor) = next.clone().filter(|_| found.len() < wanted.limit) else { break };
            if usize::from(cursor.lane) >= pool.lanes.len() {
                next = None;
                break;
            }
            let limit = PAGE_STEP.min(wanted.limit - found.len());
            let operation =
                Writer::new(Code::Inventory).counted::<1>(&cursor.after).number::<2>(limit as u64);
            let of_pool = pool.id;
            let read = move |reader: &mut Reader<'_>, now: Timestamp| {
                let _ = reader.byte()?;
                let (is_end, last) = (reader.byte()? == 1, reader.counted::<1>()?.to_vec());
                let keys = (0..reader.size::<2>()?).map(|_| {
                    let id = id_of(reader.bytes(16)?.try_into().map_err(|_| Malformed)?);
                    Ok((id, read_info(reader, of_pool, id, now)?))
                });
                Ok(Ok((keys.collect::<Read<Vec<_>>>()?, is_end, last)))
            };
            let (keys, is_end, last) =
                self.ask_one(pool, cursor.lane.into(), operation, Kind::Look, read).await?;
            let is_wanted = |info: &KeyInfo| {
                wanted.state.is_none_or(|kind| kind == StateKind::from(&info.state))
                    && wanted.label.is_none_or(|label| info.labels().contains(label))
            };
            found.extend(keys.into_iter().filter(|(_, info)| is_wanted(info)));
            next = Some(if is_end {
                Cursor { lane: cursor.lane + 1, after: Vec::new() }
            } else {
                Cursor { lane: cursor.lane, after: last }
            });
        }
        let next = next.filter(|cursor| usize::from(cursor.lane) < pool.lanes.len());
        Ok(Inventory { keys: found, cursor: next.map(|cursor| cursor.encode()) })
    }
}

/// How long a short id is: see `lua/record.lua`.
const SHORT_LEN: usize = 6;

/// Where a list goes on: the shard, and the last short id that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cursor {
    lane: u16,
    after: Vec<u8>,
}

impl Cursor {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode([&self.lane.to_be_bytes()[..], &self.after].concat())
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (lane, after) = bytes.split_first_chunk()?;
        let cursor = Self { lane: u16::from_be_bytes(*lane), after: after.to_vec() };
        [0, SHORT_LEN].contains(&after.len()).then_some(cursor)
    }
}

/// Reads what is shown of a key.
pub(super) fn read_info(
    reader: &mut Reader<'_>,
    pool: PoolId,
    id: KeyId,
    now: Timestamp,
) -> Read<KeyInfo> {
    let generation = reader.number::<7>()?;
    let (created_at, since, until, life_ends) =
        (reader.time()?, reader.time()?, reader.time()?, reader.time()?);
    let mut labels = Reader::new(reader.counted::<2>()?);
    let holder = Holder::new(reader.text::<1>()?, None);
    let state = match (until > now, generation % 2 == 1) {
        (true, true) => State::Leased(Lease { pool, id, generation, since, until }),
        (true, false) => State::Cooling { since, until },
        (false, _) => State::Free,
    };
    let mut own = OwnInfo { labels: Vec::new(), holder };
    while !labels.is_empty() {
        own.labels.push(Label::parse(labels.text::<2>()?).ok_or(Malformed)?);
    }
    Ok(KeyInfo { created_at, life_ends, generation, state, own: own.boxed() })
}

/// Reads the answer to a look at a key.
pub(super) fn read_shown(
    reader: &mut Reader<'_>,
    pool: PoolId,
    id: KeyId,
    now: Timestamp,
) -> Read<Result<KeyInfo, Error>> {
    match reader.byte()? {
        status::OK => Ok(Ok(read_info(reader, pool, id, now)?)),
        status::NOT_FOUND => Ok(Err(Error::NotFound)),
        _ => Err(Malformed),
    }
}
