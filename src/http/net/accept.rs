//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::permits::Permits;
use super::workers::Handover;
use crate::http::api::Place;
use crate::http::hot::{Mailbox, Transfer};

/// Pause after a failed accept, as when file descriptors have run out: connections may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, and tries again after any error.
struct Acceptor {
    listener: TcpListener,
    is_failing: bool,
}

impl Acceptor {
    fn new(listener: TcpListener) -> Self {
        Self { listener, is_failing: false }
    }

    /// The next connection, once there is a permit for it.
    async fn next(&mut self, permits: &Permits) -> (std::net::TcpStream, Place) {
        loop {
            // Only waited for: it is taken once there is a connection, so that permits count connections.
            permits.wait().await;
            let accepted = self.listener.accept().await;
            let prepared = accepted.and_then(|(stream, address)| Ok((prepare(stream)?, address)));
            match prepared {
                Ok((stream, address)) => {
                    self.is_failing = false;
                    // No `await` here: a caller that stopped waiting would lose the connection.
                    if let Some(place) = permits.try_enter(address) {
                        return (stream, place);
                    }
                    debug!(
                        "{} has as many connections as it may; one more is closed",
                        address.ip()
                    );
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if !self.is_failing {
                        warn!("cannot accept connections: {error}");
                    }
                    self.is_failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    // An answer must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// Whether a single connection failed before it was accepted, so that the next one can be accepted at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

/// The threads that take connections, in turn.
pub(in crate::http) enum Takers {
    Hot(Vec<Arc<Mailbox>>),
    /// With the thread of the hot path that takes each one after its handshake, if any does.
    Workers(Vec<(Handover, Option<Arc<Mailbox>>)>),
}

/// Accepts connections and distributes them among threads.
pub(in crate::http) async fn accept(listener: TcpListener, permits: &Permits, takers: Takers) {
    let mut acceptor = Acceptor::new(listener);
    for turn in (0_usize..).cycle() {
        let (stream, place) = acceptor.next(permits).await;
        let connection = Transfer::new(stream, place);
        // It fails only while the server ends.
        match &takers {
            Takers::Hot(threads) => drop(threads[turn % threads.len()].add(connection)),
            Takers::Workers(threads) => {
                let (worker, home) = &threads[turn % threads.len()];
                drop(worker.send(Transfer { home: home.clone(), ..connection }));
            }
        }
    }
}
