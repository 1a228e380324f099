//! From a socket to a request: accepting, limits of connections, TLS, draining, and the heartbeat.

mod accept;
mod activity;
mod connection;
mod drain;
mod handshake;
mod head;
mod heartbeat;
mod http1;
mod line;
mod peer;
mod permits;
mod prefixed;
#[cfg(test)]
mod tests;
mod tls;
mod workers;

pub(super) use self::accept::{Takers, accept};
pub(super) use self::connection::{Handler, Server};
pub(super) use self::drain::{Drain, Threads};
pub use self::heartbeat::Heartbeat;
pub(super) use self::heartbeat::Pulse;
pub(super) use self::permits::Permits;
pub use self::tls::Tls;
pub(super) use self::workers::Workers;
