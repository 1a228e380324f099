//! What operators use: metrics, probes, the dashboard, and alarms in the log.

mod alarms;
mod health;
mod live;
mod metrics;
mod page;
mod process;
mod readings;
mod samples;
mod state;
mod text;

pub(super) use self::health::{health, ready};
pub(super) use self::live::events;
pub(super) use self::metrics::show as metrics;
pub(super) use self::page::{page, policy};
pub(super) use self::readings::Status;
pub(super) use self::samples::Samples;
pub(super) use self::state::Ops;
