//! The operations of a store, and their outcomes.

use crate::error::Error;
use crate::key::{Fence, Holder, KeyId, KeyInfo, Label, Lease, Leased};
use crate::pool::PoolId;
use crate::time::Timestamp;

/// One operation.
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    /// Creates free keys, or none if there is no room for all of them. [`Error::Full`].
    Create {
        /// How many keys.
        count: usize,
    },
    /// Leases a random free key. If none is free, waits for one for up to [`Leasing::wait_ms`].
    /// [`Error::Exhausted`], [`Error::TooManyWaiters`], [`Error::TooManyHeld`].
    Lease(Leasing),
    /// As [`Operation::Lease`], but as long as the lease of an earlier request with the same key lasts, the answer
    /// is that lease. Also [`Error::RequestInProgress`], [`Error::RequestReused`].
    LeaseOnce(Leasing, RequestKey),
    /// Lets a lease end [`Renewal::lease_ms`] from now. It keeps its generation.
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::NotLeased`].
    Renew(KeyId, Renewal<'a>),
    /// Takes a key back. Without a cool-down the key is then free, even if it was cooling. With one it cools
    /// down, even if it was free; a longer cool-down that has already begun is not cut short.
    /// [`Error::NotFound`], [`Error::Stale`].
    Release(KeyId, Release<'a>),
    /// Lets a key live for the key TTL from now, unless it lives longer already. Its lease and its creation time stay as they are.
    /// [`Error::NotFound`].
    KeepAlive(KeyId),
    /// Removes a key, leased or not. [`Error::NotFound`], [`Error::Stale`].
    Delete(KeyId, Fence<'a>),
    /// Shows the state of a key. [`Error::NotFound`].
    Show(KeyId),
}

impl Operation<'_> {
    /// The key that the operation names.
    #[must_use]
    pub fn id(&self) -> Option<&KeyId> {
        match self {
            Self::Create { .. } | Self::Lease(_) | Self::LeaseOnce(..) => None,
            Self::Renew(id, _)
            | Self::Release(id, _)
            | Self::KeepAlive(id)
            | Self::Delete(id, _)
            | Self::Show(id) => Some(id),
        }
    }
}

/// How a key is leased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leasing {
    /// How long the lease lasts, in milliseconds, 1 at least; by default the lease TTL.
    pub lease_ms: Option<u32>,
    /// How long to wait for a free key, in milliseconds; 0 for not at all.
    pub wait_ms: u32,
    /// A label that the key must have. Without one, any key will do.
    pub label: Option<Label>,
    /// Who leases it.
    pub holder: Option<Holder>,
}

impl Leasing {
    /// How any key is leased, by nobody in particular. O(1).
    #[must_use]
    pub const fn of_any(lease_ms: Option<u32>, wait_ms: u32) -> Self {
        Self { lease_ms, wait_ms, label: None, holder: None }
    }

    /// Lets the holder of a client's token hold the lease, unless the client has named another one. It counts against the
    /// quota of the token either way. O(1).
    pub(crate) fn hold_with(&mut self, of_token: &Holder) {
        self.holder = match &self.holder {
            Some(named) => Holder::new(named.name(), of_token.quota().cloned()),
            None => Some(of_token.clone()),
        };
    }

    /// The same without waiting. O(1).
    #[must_use]
    pub(crate) fn at_once(&self) -> Self {
        Self { wait_ms: 0, ..self.clone() }
    }
}

/// Names the request for a lease, so that a retry is known as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// What the client calls it, and who the client is.
    pub digest: [u8; Self::DIGEST_BYTES],
    /// What it asks for: a retry must ask for the same.
    pub parameters: [u32; 5],
}

impl RequestKey {
    /// The length of a digest: so long that two never meet by chance.
    pub const DIGEST_BYTES: usize = 16;

    /// The name of the lease number `n` of a request for many. O(1).
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        for (byte, of_n) in self.digest.iter_mut().zip(n.to_le_bytes()) {
            *byte ^= of_n;
        }
        self
    }
}

/// The operation that leases a key, once if it has a request key. O(1).
#[must_use]
pub(crate) fn lease_with(leasing: Leasing, request: Option<RequestKey>) -> Operation<'static> {
    match request {
        None => Operation::Lease(leasing),
        Some(request) => Operation::LeaseOnce(leasing, request),
    }
}

/// How a key is taken back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release<'a> {
    /// The generations at which the key may be taken back.
    pub fence: Fence<'a>,
    /// How long the key cools down before it can be leased again, in milliseconds; 0 for not at all.
    pub cooldown_ms: u32,
}

/// How a lease is renewed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renewal<'a> {
    /// The generations at which the lease may be renewed.
    pub fence: Fence<'a>,
    /// How long the lease lasts from now, in milliseconds, 1 at least; by default the lease TTL.
    pub lease_ms: Option<u32>,
}

/// What an operation has done. The variants are in the order of [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The keys were created.
    Created(Created),
    /// A key was leased.
    Leased(Leased),
    /// A key was leased to a client that has waited for it. One that has hung up meanwhile does not want it.
    LeasedLate(Leased),
    /// The lease was renewed.
    Renewed(Lease),
    /// The key was taken back.
    Released,
    /// The key was kept alive, and dies then unless it is kept alive again; [`Timestamp::NEVER`] if it does not.
    KeptAlive(Timestamp),
    /// The key was removed.
    Deleted,
    /// The state of the key.
    Shown(KeyInfo),
}

/// Keys that were created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Their ids.
    pub ids: Vec<KeyId>,
    /// When the first of them dies, unless it is kept alive; [`Timestamp::NEVER`] if it does not.
    pub life_ends: Timestamp,
}

/// The result of an operation.
pub type Outcome = Result<Reply, Error>;

/// The lease in an outcome. It must be given back if its client does not receive it.
pub(crate) fn lease_of(outcome: &Outcome) -> Option<Lease> {
    match outcome {
        Ok(Reply::Leased(leased) | Reply::LeasedLate(leased)) => Some(leased.lease),
        _ => None,
    }
}

/// What a store answers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The operation is done.
    Now(Outcome),
    /// The operation will be done: its outcome goes to [`Complete`](super::Complete).
    Later(Ticket),
}

/// Names an operation that is not done yet, for [`Store::cancel`](super::Store::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The pool that the operation is for.
    pub pool: PoolId,
    /// What the store calls it.
    pub number: u64,
}
