//! What can be refused, in the caller's terms.

use std::fmt;

/// Why an operation was refused. Whatever is refused has changed nothing, but for [`Error::Unavailable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No living key has this id.
    NotFound,
    /// No key is free: every living key is leased or cools down.
    Exhausted {
        /// Milliseconds until the next lease or cool-down ends, if that is known.
        retry_after_ms: Option<u64>,
    },
    /// The key is free or cooling, so there is no lease.
    NotLeased,
    /// The key is at another generation than those that the request was meant for.
    Stale,
    /// The request with this key waits for its lease.
    RequestInProgress,
    /// A request with this key has asked for something else, and its lease lasts.
    RequestReused,
    /// As many clients wait for a key as may.
    TooManyWaiters,
    /// The pool has no room for that many more keys.
    Full {
        /// Milliseconds until the next key may die and make room.
        retry_after_ms: u64,
    },
    /// A cursor that no page has had.
    MalformedCursor,
    /// No pool has this name, or it was deleted meanwhile.
    NoSuchPool,
    /// The pool has keys, so it was not deleted.
    PoolNotEmpty,
    /// The pool that always exists cannot be deleted.
    DefaultPool,
    /// There are as many pools as may be.
    TooManyPools,
    /// The holder, or those who share its quota, have as many leases as they may have.
    TooManyHeld,
    /// The keys of the pool may not have so many different labels.
    TooManyLabels,
    /// All values together may not have so many bytes.
    ValuesFull,
    /// The store is being restored.
    Starting,
    /// The disk has no room for a change.
    StorageFull,
    /// The store cannot be reached, or cannot keep what it is told. Unlike after any other error, it
    /// is not known whether the operation was carried out.
    Unavailable {
        /// After how many milliseconds another try may be worth while.
        retry_after_ms: u64,
    },
}

impl Error {
    /// No key is free, and it is not known when one will be.
    pub const EXHAUSTED: Self = Self::Exhausted { retry_after_ms: None };
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no living key has this id",
            Self::Exhausted { .. } => "no key is free",
            Self::NotLeased => "the key is not leased",
            Self::Stale => "the lease is over, or the key is at another generation",
            Self::RequestInProgress => "a request with this key waits for its lease",
            Self::RequestReused => "a request with this key has asked for something else",
            Self::TooManyWaiters => "too many clients wait for a key already",
            Self::Full { .. } => "the pool has no room for that many more keys",
            Self::MalformedCursor => "no page of a list has had this cursor",
            Self::NoSuchPool => "no pool has this name",
            Self::PoolNotEmpty => "the pool has keys",
            Self::DefaultPool => "the default pool cannot be deleted",
            Self::TooManyPools => "there are too many pools already",
            Self::TooManyHeld => "the holder has as many leases as it may have",
            Self::TooManyLabels => "the keys of the pool have too many different labels",
            Self::ValuesFull => {
                "there is no room for more values: all together have too many bytes"
            }
            Self::Starting => "the store is being restored",
            Self::StorageFull => "the disk, or the memory of the store, is full",
            Self::Unavailable { .. } => "the store is not available",
        })
    }
}

impl std::error::Error for Error {}
