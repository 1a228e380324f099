//! Stores that answer late, fail, panic, hang or make nothing durable, over a store that does none of it.

mod committing;
mod cursed;
mod delayed;
mod failing;
mod stuck;

pub(crate) use self::committing::{Committing, GROUP};
pub(crate) use self::cursed::{CURSED, Cursed};
pub(crate) use self::delayed::Delayed;
pub(crate) use self::failing::{Failing, RETRY_AFTER_MS};
pub(crate) use self::stuck::Stuck;
