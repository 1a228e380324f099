//! Stores that answer late, fail or panic, over a store that does neither.

mod cursed;
mod delayed;
mod failing;

pub(crate) use self::cursed::{CURSED, Cursed};
pub(crate) use self::delayed::Delayed;
pub(crate) use self::failing::{Failing, RETRY_AFTER_MS};
