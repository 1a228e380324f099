//! The hot path: the commonest requests, answered ahead of hyper and the router.
//!
//! Each connection begins here, with one of a few threads; one over TLS after its handshake. A thread waits for input on all its
//! connections at once, reads from those that are ready, executes the requests as one batch, and answers.
//! That is what makes it fast: what the requests of many connections need is fetched from memory at the same
//! time, and keys are leased in groups.
//!
//! When a connection brings a request that is not hot (see [`mod@request`]), it goes to hyper, with what was
//! read from it. It comes back when its client has sent nothing for a while: an idle connection needs many
//! kilobytes in hyper but only some 200 bytes here, and its next request may be hot. Both paths give the same
//! bytes for the same request: `tests/it/paths.rs` compares them. While the store completes a request later,
//! its connection waits, and the others do not. Where the store has to make changes durable, answers leave when it has, and
//! the next requests are executed meanwhile (`park.rs`).
//!
//! `loadtest/results/` compares it with bare hyper, and with a loop that parses nothing.

mod answers;
mod audited;
mod batch;
mod completions;
mod connection;
mod counts;
mod event_loop;
mod execute;
mod fields;
mod known_host;
mod known_pool;
mod last_input;
mod mailbox;
mod park;
mod parked;
mod parse;
mod pending;
mod read;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod thread;

pub(super) use self::event_loop::Shared;
pub(super) use self::mailbox::{Mailbox, Transfer};
pub(super) use self::parse::is_hot;
pub(super) use self::session::{Session, SessionOwner, has_input};
pub(super) use self::thread::start;
