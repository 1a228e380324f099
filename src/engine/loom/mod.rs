//! The scenarios of the model checker. `buckets.rs` and `records.rs` replace the pool's modules of the same
//! names, which wrap libraries.

mod checker;
mod leases;
mod lives;
mod lock;
mod once;
mod own;

pub(super) use self::lock::Mutex;
pub(super) use self::once::OnceLock;
