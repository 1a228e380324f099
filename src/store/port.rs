//! What every store can do, and what it promises.

use std::sync::Arc;

use super::operation::{Answer, Operation, Outcome, Ticket};
use crate::engine::{IndexSizes, Totals};
use crate::error::Error;
use crate::key::Lease;
use crate::time::Timestamp;

/// What a store holds, and what has happened in it.
///
/// All sums hold: `keys` = `free` + `leased` + `cooling`, and those of [`Totals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys. Dead ones count until the store has removed them.
    pub keys: u64,
    /// Keys that are free.
    pub free: u64,
    /// Keys that are leased. A lease that is over counts until the store has noticed it.
    pub leased: u64,
    /// Keys that cool down.
    pub cooling: u64,
    /// The most keys there may be at once.
    pub keys_max: u64,
    /// Clients that wait for a key.
    pub waiting: u64,
    /// Leases that were given to clients that waited, since the start.
    pub leases_after_waiting: u64,
    /// What has happened since the start.
    pub totals: Totals,
}

/// How the inside of a store is doing, for its operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// How large its indexes are.
    pub index_sizes: IndexSizes,
    /// For how many milliseconds the oldest entry that is due has been due: how far the sweep is
    /// behind.
    pub sweep_lag_ms: u64,
}

/// What a store with indexes and a sweep tells beside its [`Stats`].
pub trait Diagnose: Send + Sync {
    /// Looks at the indexes and the sweep. O(s + log n) for s shards.
    fn diagnose(&self) -> Diagnostics;
}

/// Receives the outcomes of operations that were not done at once.
pub trait Complete: Send + Sync {
    /// Takes the outcome of the operation with this token, exactly once for each [`Answer::Later`], at
    /// any time and on any thread. False if it is not wanted any more: then the store takes a lease
    /// back.
    ///
    /// It must not block, nor call the store.
    fn complete(&self, token: u64, outcome: Outcome) -> bool;
}

/// Where a batch's outcomes go that come later: the token of its first operation is `first_token`,
/// that of the next one is one more, and so on.
pub struct Later {
    /// What takes them.
    pub receiver: Arc<dyn Complete>,
    /// The token of the first operation.
    pub first_token: u64,
}

/// A pool of keys that die unless they are kept alive, and are leased to one holder at a time.
///
/// What every store promises:
///
/// - A key has one holder at most. A lease lasts as long as was asked for, or until the key is
///   released, deleted or dies; nothing else cuts it short, and at its end the key is free at
///   once. The same is true of a cool-down.
/// - A generation never repeats for a key: a request that names the one of a lease that is over is
///   refused.
/// - A lease gives each free key with equal probability, and fails only if there was a moment at which
///   none was free.
/// - First come, first served: while a client waits, a lease that does not wait is told that no key is
///   free. Whatever frees a key serves the clients that wait.
/// - A key dies one key TTL after its creation or its last keep-alive, leased or not. A dead key
///   is like one that never was: it is neither shown nor served, and nothing revives it.
/// - Time never runs backwards for a key: what was once shown as over stays over.
/// - Each operation on one key is atomic. One that fails has changed nothing, but for
///   [`Error::Unavailable`], after which that is not known.
///
/// Time is the store's own.
pub trait Store: Send + Sync + 'static {
    /// Executes operations, and adds an answer for each to `answers`, in their order. It does not
    /// block. O(the sum of the operations).
    ///
    /// Operations of a batch that name the same key are executed in their order. One that cannot be
    /// answered at once (as it is long, waits for a key, or the store is remote or must first write to
    /// disk) holds up no other.
    ///
    /// Any operation may fail with [`Error::Unavailable`].
    fn execute(&self, operations: &[Operation<'_>], answers: &mut Vec<Answer>, later: &Later);

    /// Lets a lease that waits end now, with [`Error::Exhausted`] unless it was just served, and a
    /// creation stop: keys that it has created by then live out their key TTL. Other operations go on.
    /// O(log w) for w clients that wait.
    fn cancel(&self, ticket: Ticket);

    /// Takes back leases that no client has heard of, soon.
    fn give_back(&self, leases: Vec<Lease>);

    /// Counts, at about one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]
    fn stats(&self) -> impl Future<Output = Result<Stats, Error>> + Send;

    /// The time of day at a time that this store gave, for display, in milliseconds of Unix time. O(1).
    fn unix_ms(&self, at: Timestamp) -> u64;
}
