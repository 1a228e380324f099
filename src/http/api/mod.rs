//! The routes for clients that lease keys.

pub(super) mod audited;
pub(super) mod batches;
mod client;
pub(super) mod creation;
pub(super) mod if_match;
mod import;
pub(super) mod inventory;
pub(super) mod keys;
pub(super) mod leases;
mod limits;
mod of_pool;
mod parameters;
mod places;
pub(super) mod pools;
pub(super) mod query;
pub(super) mod request_key;
mod room;
pub(super) mod settings;
mod state;
pub(super) mod stats;
pub(super) mod take_back;
mod timeouts;

pub(super) use self::client::{Client, has_hung_up};
pub(super) use self::limits::Limits;
pub(super) use self::parameters::check_parameters;
pub(super) use self::places::{Peers, Place, Turn, Turns};
pub(super) use self::query::watched_pool;
pub(super) use self::state::Api;
pub use self::timeouts::Timeouts;
