//! The audit log: a line for each request that changes or gives something, and for each one that was refused
//! for its token or its host.
//!
//! An [`Entry`] begins with the request and ends with the answer, on either path. Without an audit log there
//! are no entries, and nothing is read or written for them.

mod entry;
mod ids;
mod line;

pub(super) use self::entry::{Entry, Subject};
pub(super) use self::ids::Sent;
pub use self::line::AuditLog;
