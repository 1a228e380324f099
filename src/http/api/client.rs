//! The client of a request, as far as handlers need it.

use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// The connection of a client. Handlers can ask whether the client has hung up.
#[derive(Clone)]
pub(in crate::http) struct Client(Arc<TcpStream>);

impl Client {
    pub(in crate::http) fn new(socket: Arc<TcpStream>) -> Self {
        Self(socket)
    }

    /// Completes when the client has hung up. Hyper notices that only if it has read all that the client has
    /// sent.
    pub(in crate::http) async fn gone(&self) {
        // For tokio, this interest includes the end of the input, but not input itself.
        let _ = self.0.ready(Interest::PRIORITY).await;
    }

    /// Ready when the connection was reset: the client takes no answer any more. One that has only
    /// closed its half still does.
    pub(in crate::http) async fn reset(&self) {
        let _ = self.0.ready(Interest::ERROR).await;
    }
}
