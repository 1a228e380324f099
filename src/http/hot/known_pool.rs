//! The pools that requests name.

use crate::http::api::Limits;
use crate::pool::{PoolId, PoolName};
use crate::store::Store;

/// Where pools are looked up.
pub(super) trait Lookup {
    /// The pool with this name.
    fn find(&mut self, name: &str) -> Option<PoolId>;

    /// The limits of its parameters.
    fn limits(&self, pool: PoolId) -> Option<Limits>;
}

/// The pool that was named last: many requests name the same one.
#[derive(Default)]
pub(super) struct KnownPool {
    name: String,
    pool: PoolId,
    /// Of the pools, when it was found.
    version: u64,
}

impl KnownPool {
    /// The pools of `store`.
    pub(super) fn of<'a, S: Store>(&'a mut self, store: &'a S) -> Pools<'a, S> {
        Pools { known: self, store }
    }
}

/// The pools of a store.
pub(super) struct Pools<'a, S> {
    known: &'a mut KnownPool,
    store: &'a S,
}

impl<S: Store> Lookup for Pools<'_, S> {
    fn find(&mut self, name: &str) -> Option<PoolId> {
        // Before it is looked up: if it goes meanwhile, it is looked up once more.
        let version = self.store.pools_version();
        if self.known.name != name || self.known.version != version {
            let pool = self.store.find_pool(name)?;
            self.known.name.clear();
            self.known.name.push_str(name);
            (self.known.pool, self.known.version) = (pool, version);
        }
        Some(self.known.pool)
    }

    fn limits(&self, pool: PoolId) -> Option<Limits> {
        self.store.settings_of(pool).map(Limits::from)
    }
}

/// Pools of any name, without limits: whether a request may be hot can be told without a store.
pub(super) struct AnyPool;

impl Lookup for AnyPool {
    fn find(&mut self, name: &str) -> Option<PoolId> {
        PoolName::is_valid(name).then_some(PoolId::DEFAULT)
    }

    fn limits(&self, _: PoolId) -> Option<Limits> {
        Some(Limits::NONE)
    }
}
