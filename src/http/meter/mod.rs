//! What is counted of requests: how many, how they were answered, and how long that took.
//!
//! Each thread of the hot path has a [`Tally`] of its own, so that no two of them write the same memory;
//! all else shares one. Whoever looks adds them up.

mod histogram;
mod observe;
mod tally;

pub(super) use self::histogram::Snapshot;
pub(super) use self::observe::{log, observe};
pub(super) use self::tally::{Metrics, Tally};
