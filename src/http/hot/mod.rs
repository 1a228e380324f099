//! The hot path: the commonest requests, answered ahead of hyper and the router.
//!
//! Each connection begins here, with one of a few threads. Such a thread waits for input on all of
//! its connections at once, reads what has come on as many of them as are ready, does what it asks
//! for, and answers. That requests of many connections are done together is what makes it fast: what
//! they need is fetched from memory at the same time, and keys are leased in groups.
//!
//! With a request that is not hot (see [`mod@request`]), a connection and what was read of it go to hyper.
//! They come back when the client has sent nothing for a while: an idle connection of hyper needs many
//! kilobytes, one of this path some 200 bytes, and its next request may be hot. Both paths give the same
//! bytes for the same request: `tests/it/paths.rs` compares them. While the store completes a request
//! later, its connection waits, and the others do not.
//!
//! How it compares with bare hyper and with a loop that parses nothing: `loadtest/results/`.

mod answers;
mod batch;
mod completions;
mod connection;
mod event_loop;
mod execute;
mod mailbox;
mod parse;
mod pending;
mod request;
#[cfg(test)]
mod tests;
mod thread;

pub(super) use self::event_loop::Shared;
pub(super) use self::mailbox::{Mailbox, Transfer};
pub(super) use self::thread::start;
