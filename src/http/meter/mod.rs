//! Counts of requests: how many there were, their statuses, and how long they took.
//!
//! Each thread of the hot path has a [`Tally`] of its own, so that no two of them write the same memory.
//! The router has one for all its threads. A reader adds them up.

mod histogram;
mod no_key;
mod observe;
mod tally;

pub(super) use self::histogram::Snapshot;
pub(super) use self::no_key::NoKey;
pub(super) use self::observe::{Observed, log};
pub(super) use self::tally::{Metrics, Tally};
