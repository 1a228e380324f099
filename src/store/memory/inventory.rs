//! Lists of keys.

use super::one_pool::OnePool;
use super::state::Memory;
use crate::engine::WalkCursor;
use crate::error::Error;
use crate::key::State;
use crate::pool::PoolId;
use crate::store::give_way::give_way;
use crate::store::inventory::{Inventory, StateKind, Wanted};
use crate::time::Clock;

/// How many keys a page looks at for each that it may have, where most are not in the state that is wanted.
const LOOKS_PER_KEY: usize = 4;
/// How often a page looks at least: one of few keys would else be empty too often.
const STEPS_MIN: usize = 16;

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
        let is_wanted =
            |state: &State| wanted.state.is_none_or(|kind| kind == StateKind::from(state));
        let (mut found, mut next) = (Vec::new(), Some(cursor));
        for _ in 0..LOOKS_PER_KEY * wanted.limit / OnePool::<C>::STEP + STEPS_MIN {
            let Some(cursor) = next.filter(|_| found.len() < wanted.limit) else { break };
            let limit = OnePool::<C>::STEP.min(wanted.limit - found.len());
            let page = pool.keys().walk(cursor, limit, self.shared.clock.now());
            found.extend(page.keys.into_iter().filter(|(_, info)| is_wanted(&info.state)));
            next = page.next;
            give_way().await;
        }
        Ok(Inventory { keys: found, cursor: next.map(WalkCursor::encode) })
    }
}
