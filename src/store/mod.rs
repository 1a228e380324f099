//! Where keys live, behind one trait: [`Store`].

mod memory;

use std::future::Future;
use std::time::SystemTime;

pub use self::memory::{Memory, Options};
use crate::engine::Stats;
use crate::error::Error;
use crate::key::{KeyId, KeyInfo, Lease};
use crate::time::Timestamp;

/// A pool of keys that die unless they are kept alive, and are leased one holder at a time.
///
/// What every store promises:
///
/// - A key has one holder at most. A lease lasts for the lease TTL, or until the key is released,
///   deleted or dies; it is cut short by nothing else, and at its end the key is free at once.
/// - [`Store::lease`] gives each free key with equal probability, and fails only if there was a
///   moment at which none was free.
/// - A key dies one key TTL after its creation or its last keep-alive, leased or not. A dead key
///   is like one that never was: it is neither shown nor served, and nothing revives it.
/// - Each operation on one key is atomic. Whatever fails has changed nothing.
/// - Operations may be called from any number of tasks. One that is dropped before its end has
///   either happened or not; a creation may have happened for some of its keys.
pub trait Store: Send + Sync + 'static {
    /// Creates `count` free keys; none if there is no room for all of them. It may give way to
    /// others in between, so that its keys are not of one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]
    fn create(&self, count: usize) -> impl Future<Output = Result<Vec<KeyId>, Error>> + Send;

    /// Leases a random free key.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`]
    fn lease(&self) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Leases up to `count` random free keys, at least one.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`]
    fn lease_many(&self, count: usize) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Tells which keys are about to be asked for, so that a store may fetch what it knows of them.
    /// Nothing is promised, and nothing changes.
    fn prefetch(&self, ids: &[KeyId]) {
        let _ = ids;
    }

    /// Takes a key back, whoever holds it. A free key stays free.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    fn release(&self, id: &KeyId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Starts a key's life anew. Its lease and its creation time stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    fn keep_alive(&self, id: &KeyId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes a key, leased or not.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    fn delete(&self, id: &KeyId) -> impl Future<Output = Result<(), Error>> + Send;

    /// What is known of a key.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    fn get(&self, id: &KeyId) -> impl Future<Output = Result<KeyInfo, Error>> + Send;

    /// Counts, at about one moment.
    fn stats(&self) -> impl Future<Output = Stats> + Send;

    /// The time of day at a time that this store gave, for display.
    fn wall(&self, at: Timestamp) -> SystemTime;
}
