//! The scenarios that the model checker runs. `buckets.rs` and `records.rs` stand in for the pool's own
//! modules of that name, which libraries do the work of.

mod checker;
mod leases;
mod lives;
mod lock;

pub(super) use self::lock::Mutex;
