//! Creating keys: each in the shard that its random id says.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::lane::Kind;
use super::limits::Limited;
use super::pool::Pool;
use super::receiver::Receiver;
use super::state::Shared;
use super::wire::{Code, Malformed, Reader, Writer, status};
use crate::error::Error;
use crate::key::{KeyId, Ttl};
use crate::store::operation::{Created, Reply};
use crate::time::{Clock, Timestamp};

/// How many keys are created between two looks whether the creation is still wanted.
const STEP: usize = 4096;
/// The most keys that one operation creates.
const EACH: usize = 64;

/// The key TTL as it is sent.
pub(super) fn ttl_of(pool: &Pool) -> u64 {
    const NEVER: u64 = (1 << 40) - 1;
    pool.settings().key_ttl_ms.unwrap_or(Ttl::NEVER_MS).min(NEVER)
}

impl<C: Clock> Shared<C> {
    /// Creates keys, and delivers the outcome.
    pub(super) async fn create(
        self: Arc<Self>,
        pool: Arc<Pool>,
        count: usize,
        ticket: u64,
        receiver: Receiver,
    ) {
        let created = self.create_all(&pool, count, ticket).await;
        self.creations.lock().remove(&ticket);
        receiver.tell(created.map(Reply::Created));
    }

    async fn create_all(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        count: usize,
        ticket: u64,
    ) -> Result<Created, Error> {
        self.reserve_keys(pool, count).await?;
        let mut created =
            Created { ids: Vec::with_capacity(count.min(STEP)), life_ends: Timestamp::NEVER };
        let mut outcome = Ok(());
        while created.ids.len() < count
            && outcome.is_ok()
            && self.creations.lock().contains(&ticket)
        {
            outcome =
                self.create_some(pool, STEP.min(count - created.ids.len()), &mut created).await;
        }
        let (used, limited) = (created.ids.len(), Limited::Keys(Arc::clone(pool)));
        self.settle(limited, used as u64, (count - used) as u64).await;
        pool.line.note_news();
        outcome.map(|()| created)
    }

    /// Creates up to so many keys. If an id is taken, which is all but impossible, there is one less.
    async fn create_some(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        count: usize,
        created: &mut Created,
    ) -> Result<(), Error> {
        let mut by_lane = BTreeMap::<usize, Vec<(usize, KeyId)>>::new();
        for place in 0..count {
            let id = KeyId::random(&mut rand::rng());
            by_lane.entry(pool.lane_of(&id)).or_default().push((place, id));
        }
        let parts = by_lane.iter().flat_map(|(lane, ids)| ids.chunks(EACH).map(|ids| (*lane, ids)));
        let asked = parts.map(|(lane, ids)| {
            let mut operation = Writer::new(Code::Create).number::<6>(ttl_of(pool));
            for (_, id) in ids {
                operation = operation.id(id);
            }
            let count = ids.len();
            let read = move |reader: &mut Reader<'_>, _| {
                if reader.byte()? != status::OK {
                    return Err(Malformed);
                }
                let life_ends = reader.time()?;
                let is_new = reader.bytes(count)?.iter().map(|status| *status == status::OK);
                Ok(Ok((life_ends, is_new.collect::<Vec<_>>())))
            };
            let answer = self.ask_one(pool, lane, operation, Kind::Grow, read);
            async move { (lane, ids, answer.await) }
        });
        let answers = join_all(asked).await;
        let mut ids = vec![None; count];
        let mut outcome = Ok(());
        for (lane, of_part, answer) in answers {
            match answer {
                Ok((life_ends, is_new)) => {
                    created.life_ends = created.life_ends.min(life_ends);
                    let new = of_part.iter().zip(is_new).filter(|(_, is_new)| *is_new);
                    for ((place, id), _) in new {
                        ids[*place] = Some(*id);
                    }
                    pool.lanes[lane].add_known(u32::try_from(of_part.len()).unwrap_or(0));
                }
                Err(error) => outcome = Err(error),
            }
        }
        created.ids.extend(ids.into_iter().flatten());
        outcome
    }
}
