//! What operators look at: metrics, probes, the page that is shown live, and alarms in the log.

mod alarms;
mod health;
mod live;
mod metrics;
mod readings;
mod samples;
mod state;

pub(super) use self::health::{health, ready};
pub(super) use self::live::{events, page, policy};
pub(super) use self::metrics::show as metrics;
pub(super) use self::readings::Status;
pub(super) use self::samples::Samples;
pub(super) use self::state::Ops;
