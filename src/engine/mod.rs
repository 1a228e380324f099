//! The engine: a pool of keys, pure and synchronous. `now` and randomness are arguments.
//!
//! It rests on one idea: **the record is the truth, everything else is a hint.** The crate's documentation
//! says what follows from it. [`Pool`] has the operations.

mod bucket;
#[cfg_attr(loom, path = "loom/buckets.rs")]
mod buckets;
#[cfg(test)]
mod check;
mod configure;
mod create;
mod expiry;
pub(crate) mod fail_point;
mod free;
mod free_halves;
#[cfg(all(test, not(loom)))]
mod growing_tests;
mod guarded;
mod halves;
mod hold;
#[cfg(all(test, not(loom)))]
mod holder_tests;
mod holders;
mod journal;
mod labels;
mod lapse;
mod lease;
mod life;
#[cfg(loom)]
mod loom;
mod own;
#[cfg(test)]
mod own_check;
#[cfg(all(test, not(loom)))]
mod own_tests;
mod packed;
mod place;
mod pool;
mod record;
#[cfg(all(test, not(loom)))]
mod record_tests;
#[cfg_attr(loom, path = "loom/records.rs")]
mod records;
mod restore;
mod settings;
#[cfg(all(test, not(loom)))]
mod settings_tests;
mod shard;
mod short_id;
mod side;
mod stats;
mod sweep;
mod sync;
mod tables;
#[cfg(all(test, not(loom)))]
mod tests;
mod transition;
mod values;
mod walk;

pub use self::create::{Creation, NewKey, Reservation};
pub use self::halves::Size;
pub use self::holders::HolderCursor;
pub use self::journal::{After, Entry, Journal, KeyState};
pub use self::labels::Pushes;
pub use self::lease::Terms;
pub use self::pool::{OwnOptions, Pool};
pub use self::restore::Restoring;
pub use self::settings::Settings;
pub use self::stats::{IndexSizes, Stats, Totals};
pub use self::values::ValueBytes;
pub use self::walk::{Page, WalkCursor};
