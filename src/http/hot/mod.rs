//! The hot path: the commonest requests, answered ahead of hyper and the router.
//!
//! Each connection begins here, with one of a few threads. Such a thread waits for input on all of
//! its connections at once, reads what has come on as many of them as are ready, does what it asks
//! for, and answers. That requests of many connections are done together is what makes it fast: what
//! they need is fetched from memory at the same time, and keys are leased in groups.
//!
//! With the first request that is not hot (see [`mod@parse`]), a connection and what was read of it go
//! to hyper for good. Both paths give the same bytes for the same request: `tests/it/paths.rs`
//! compares them. A request that a store does not answer at once is finished by a task, and its
//! connection waits meanwhile; the others do not.
//!
//! How it compares with bare hyper and with a loop that parses nothing: `loadtest/results/`.

mod answers;
mod connection;
mod event_loop;
mod mailbox;
mod parse;
mod thread;

pub(super) use self::event_loop::{Other, Shared};
pub(super) use self::mailbox::Mailbox;
pub(super) use self::thread::start;
