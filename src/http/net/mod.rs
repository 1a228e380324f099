//! From a socket to a request: accepting, keeping within limits, and ending well.

mod accept;
mod connection;
mod drain;
mod handshake;
mod head;
mod peer;
mod permits;
mod tls;

pub(super) use self::accept::{accept, hand_out, take_over};
pub(super) use self::connection::Server;
pub(super) use self::drain::{Drain, Threads};
pub(super) use self::permits::Permits;
pub use self::tls::Tls;
