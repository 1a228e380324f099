//! Where keys live, behind one trait: [`Store`].
//!
//! A batch of operations is the unit: a store executes together what comes together, which saves cache
//! misses, flushes or round trips. A single operation is a batch of one. [`StoreExt`] has each operation as
//! an async method.

mod call;
mod calls;
mod committed;
mod give_way;
mod import;
mod inventory;
mod memory;
mod operation;
mod port;
mod redis;
mod starting;

pub use self::calls::{InPool, StoreExt};
pub use self::committed::committed;
pub(crate) use self::give_way::{give_way, together};
pub use self::import::{Imported, OwnKey};
pub use self::inventory::{Inventory, StateKind, Wanted};
pub use self::memory::{
    Checked, ClockState, DataDirectory, Durable, Memory, Options, repair_directory,
};
pub(crate) use self::operation::lease_of;
pub use self::operation::{
    Answer, Created, Leasing, Operation, Outcome, Release, Renewal, Reply, RequestKey, Ticket,
};
pub use self::port::{CommitPoint, Complete, Diagnose, Later, Listed, RemoteStats, Stats, Store};
pub use self::redis::{Redis, RedisOptions};
pub use self::starting::Starting;
pub use crate::engine::{IndexSizes, Totals};
pub use crate::journal::JournalStats;
