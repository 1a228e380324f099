//! What can be refused, in the caller's terms.

use std::fmt;

/// Why an operation was refused. Whatever is refused has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No living key has this id.
    NotFound,
    /// Every living key is leased.
    Exhausted,
    /// The key is free or cooling, so there is no lease.
    NotLeased,
    /// The key has moved on from the generations that the request was meant for.
    Stale,
    /// As many wait for a key as may.
    TooManyWaiters,
    /// The pool has no room for that many more keys.
    Full {
        /// Milliseconds until the next key may die and make room.
        retry_after_ms: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no living key has this id",
            Self::Exhausted => "no key is free",
            Self::NotLeased => "the key is not leased",
            Self::Stale => "the lease is over, or the key is at another generation",
            Self::TooManyWaiters => "too many wait for a key already",
            Self::Full { .. } => "the pool has no room for that many more keys",
        })
    }
}

impl std::error::Error for Error {}
