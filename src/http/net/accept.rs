//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::connection::Server;
use super::drain::Threads;
use super::permits::Permits;
use crate::http::hot::Other;

/// Pause after a failed accept, as when file descriptors have run out: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, whatever the trouble.
struct Acceptor {
    listener: TcpListener,
    is_failing: bool,
}

impl Acceptor {
    fn new(listener: TcpListener) -> Self {
        Self { listener, is_failing: false }
    }

    /// The next connection, once there is a place for it.
    async fn next(&mut self, permits: &Permits) -> (std::net::TcpStream, OwnedSemaphorePermit) {
        loop {
            // Taken only by what is there, so that they tell how many connections there are.
            permits.wait().await;
            match self.listener.accept().await.and_then(|(stream, _)| prepare(stream)) {
                Ok(stream) => {
                    self.is_failing = false;
                    // Without giving way: whoever no longer waits for this would lose the connection.
                    if let Some(place) = permits.try_take() {
                        return (stream, place);
                    }
                    debug_assert!(false, "nobody else takes permits");
                }
                Err(error) if is_the_clients(&error) => {}
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

/// Whether the connection failed before it was accepted, which is nobody's trouble here.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

/// Gives the connections that come to the threads, in turn; without any, all to `others`.
pub(in crate::http) async fn hand_out(
    listener: TcpListener,
    permits: &Permits,
    threads: &Threads,
    others: mpsc::UnboundedSender<Other>,
) {
    let mut acceptor = Acceptor::new(listener);
    let mut next = threads.mailboxes().iter().cycle();
    loop {
        let (stream, place) = acceptor.next(permits).await;
        match next.next() {
            Some(thread) => thread.add(stream, place),
            None => drop(others.send(Other::new(stream, place))),
        }
    }
}

/// Accepts connections and serves them, until `ended` has changed and all have ended.
pub(in crate::http) async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    permits: Arc<Permits>,
    mut ended: watch::Receiver<()>,
) {
    let mut acceptor = Acceptor::new(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, place) = acceptor.next(&permits) => {
                server.spawn(&mut connections, Other::new(stream, place), ended.clone());
            }
            Some(_) = connections.join_next() => {}
            _ = ended.changed() => break,
        }
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
}

/// Serves the connections that come, until no more can come and all have ended.
pub(in crate::http) async fn take_over(
    server: Arc<Server>,
    mut others: mpsc::UnboundedReceiver<Other>,
    stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            other = others.recv() => {
                let Some(other) = other else { break };
                server.spawn(&mut connections, other, stopped.clone());
            }
            // What it needed is freed at once.
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}
