//! The parts of the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::link::Link;
use super::quota::Quotas;
use super::registry::Registry;
use super::room::Room;
use crate::store::memory::Options;
use crate::time::Timestamp;

pub(super) struct Shared<C> {
    pub(super) link: Link,
    /// The clock by which clients of this server wait. All else is by the clocks of the engine.
    pub(super) clock: C,
    pub(super) options: Options,
    /// What all keys in the engine begin with.
    pub(super) prefix: String,
    pub(super) runtime: Handle,
    /// Names this server, as long as it runs.
    pub(super) me: [u8; 8],
    pub(super) registry: Registry,
    pub(super) quotas: Quotas,
    /// How many bytes the values of all pools may have.
    pub(super) value_room: Room,
    /// How many clients of this server wait, in all pools.
    pub(super) waiting: Arc<AtomicUsize>,
    /// Creations that were not cancelled.
    pub(super) creations: Mutex<HashSet<u64>>,
    pub(super) next_ticket: AtomicU64,
    seen_ms: AtomicU64,
}

impl<C> Shared<C> {
    pub(super) fn new(link: Link, clock: C, prefix: &str, options: Options) -> Arc<Self> {
        let me = rand::random();
        Arc::new(Self {
            link,
            clock,
            options,
            prefix: prefix.to_owned(),
            runtime: Handle::current(),
            me,
            registry: Registry::default(),
            quotas: Quotas::default(),
            value_room: Room::new(format!("{{{prefix}}}values").into_bytes()),
            waiting: Arc::default(),
            creations: Mutex::default(),
            next_ticket: AtomicU64::new(1),
            seen_ms: AtomicU64::new(0),
        })
    }

    /// Notes a time that the engine has told.
    pub(super) fn note_seen(&self, now: Timestamp) {
        self.seen_ms.fetch_max(now.as_ms(), Relaxed);
    }

    /// The latest time that the engine has told.
    pub(super) fn seen(&self) -> Timestamp {
        Timestamp::from_ms(self.seen_ms.load(Relaxed))
    }
}
