//! Lists of keys.

use super::one_pool::OnePool;
use super::state::Memory;
use crate::engine::WalkCursor;
use crate::error::Error;
use crate::key::KeyInfo;
use crate::pool::PoolId;
use crate::store::give_way::give_way;
use crate::store::inventory::{Inventory, StateKind, Wanted};
use crate::time::Clock;

/// How many keys a page looks at for each that it may have, where most are not in the state that is wanted.
const LOOKS_PER_KEY: usize = 4;
/// How many keys a page looks at beside these: one that is to have few would else be empty too often.
const LOOKS_MIN: usize = 1024;

impl<C: Clock> Memory<C> {
    /// A page of the list of the keys of a pool.
    pub(super) async fn page_of(
        &self,
        pool: PoolId,
        wanted: Wanted<'_>,
    ) -> Result<Inventory, Error> {
        let pool = self.shared.pools.get(pool).ok_or(Error::NoSuchPool)?;
        let cursor = match wanted.cursor {
            None => WalkCursor::default(),
            Some(text) => WalkCursor::decode(text).ok_or(Error::MalformedCursor)?,
        };
        let is_wanted = |info: &KeyInfo| {
            wanted.state.is_none_or(|kind| kind == StateKind::from(&info.state))
                && wanted.label.is_none_or(|label| info.labels().contains(label))
        };
        let (mut found, mut next) = (Vec::new(), Some(cursor));
        let (mut left, mut looks) = (LOOKS_PER_KEY * wanted.limit + LOOKS_MIN, 0);
        while left > 0
            && let Some(cursor) = next.filter(|_| found.len() < wanted.limit)
        {
            let limit = OnePool::<C>::STEP.min(wanted.limit - found.len());
            let page = pool.keys().walk(cursor, limit, self.shared.clock.now());
            // A walk through empty buckets takes as long as a full step.
            let seen = if page.keys.len() < limit { OnePool::<C>::STEP } else { limit };
            (left, looks) = (left.saturating_sub(seen), looks + seen);
            found.extend(page.keys.into_iter().filter(|(_, info)| is_wanted(info)));
            next = page.next;
            if looks >= OnePool::<C>::STEP {
                looks = 0;
                give_way().await;
            }
        }
        Ok(Inventory { keys: found, cursor: next.map(WalkCursor::encode) })
    }
}
