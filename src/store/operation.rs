//! What a store is asked for, and what it answers.

use crate::error::Error;
use crate::key::{Fence, KeyId, KeyInfo, Lease};
use crate::time::Timestamp;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Creates so many free keys; none if there is no room for all of them. [`Error::Full`].
    Create {
        /// How many.
        count: usize,
    },
    /// Leases a random free key. If none is free, it waits for one as long as it was told.
    /// [`Error::Exhausted`], [`Error::TooManyWaiters`].
    Lease(Leasing),
    /// Lets a lease last from now on as long as it was told, with the same generation.
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::NotLeased`].
    Renew(KeyId, Renewal<'a>),
    /// Takes a key back, whoever holds it. Without a cool-down a free key stays free, and one that
    /// is cooling is free; a cool-down that lasts longer already is not cut short.
    /// [`Error::NotFound`], [`Error::Stale`].
    Release(KeyId, Release<'a>),
    /// Lets a key live for the key TTL from now. Its lease and its creation time stay as they are.
    /// [`Error::NotFound`].
    KeepAlive(KeyId),
    /// Removes a key, leased or not. [`Error::NotFound`], [`Error::Stale`].
    Delete(KeyId, Fence<'a>),
    /// Tells what is known of a key. [`Error::NotFound`].
    Show(KeyId),
}

impl Operation<'_> {
    /// The key that it names.
    #[must_use]
    pub fn id(&self) -> Option<&KeyId> {
        match self {
            Self::Create { .. } | Self::Lease(_) => None,
            Self::Renew(id, _)
            | Self::Release(id, _)
            | Self::KeepAlive(id)
            | Self::Delete(id, _)
            | Self::Show(id) => Some(id),
        }
    }
}

/// How a key is leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leasing {
    /// For how many milliseconds, 1 at least; without it for the lease TTL.
    pub lease_ms: Option<u32>,
    /// For how many milliseconds to wait until a key is free.
    pub wait_ms: u32,
}

/// How a key is taken back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release<'a> {
    /// Which generation is meant.
    pub fence: Fence<'a>,
    /// For how many milliseconds the key cools down before it is leased again.
    pub cooldown_ms: u32,
}

/// How a lease is renewed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renewal<'a> {
    /// Which generation is meant.
    pub fence: Fence<'a>,
    /// For how many milliseconds from now, 1 at least; without it for the lease TTL.
    pub lease_ms: Option<u32>,
}

/// What an operation did, in the order of [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The keys were created.
    Created(Created),
    /// A key was leased.
    Leased(Lease),
    /// The lease was renewed.
    Renewed(Lease),
    /// The key was taken back.
    Released,
    /// The key lives until then unless it is kept alive again.
    KeptAlive(Timestamp),
    /// The key was removed.
    Deleted,
    /// What is known of the key.
    Shown(KeyInfo),
}

/// Keys that were created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Their ids.
    pub ids: Vec<KeyId>,
    /// When the first of them dies unless it is kept alive.
    pub life_ends: Timestamp,
}

/// What became of an operation.
pub type Outcome = Result<Reply, Error>;

/// The lease that an outcome gives, which must be given back if no client hears of it.
pub(crate) fn lease_of(outcome: &Outcome) -> Option<Lease> {
    match outcome {
        Ok(Reply::Leased(lease)) => Some(*lease),
        _ => None,
    }
}

/// What a store says at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Now(Outcome),
    /// It will be done: the outcome goes to [`Complete`](super::Complete).
    Later(Ticket),
}

/// An operation that is not done yet, as its store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);
