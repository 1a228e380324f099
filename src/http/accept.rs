//! Accepting connections.

use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tracing::warn;

use super::status::Places;

/// Pause after a failed accept, as when file descriptors have run out: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, whatever the trouble.
pub(super) struct Acceptor {
    listener: TcpListener,
    is_failing: bool,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, is_failing: false }
    }

    /// The next connection, once there is a place for it.
    pub(super) async fn next(
        &mut self,
        places: &Places,
    ) -> (std::net::TcpStream, OwnedSemaphorePermit) {
        loop {
            // Taken only by what is there, so that they tell how many connections there are.
            places.wait().await;
            match self.listener.accept().await.and_then(|(stream, _)| prepare(stream)) {
                Ok(stream) => {
                    self.is_failing = false;
                    // Without giving way: whoever no longer waits for this would lose the connection.
                    if let Some(place) = places.try_take() {
                        return (stream, place);
                    }
                    debug_assert!(false, "nobody else takes places");
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
