//! The client that a request comes from, as its handler knows it.

use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Handlers may ask whether it has gone.
#[derive(Clone)]
pub(in crate::http) struct Client(Arc<TcpStream>);

impl Client {
    pub(in crate::http) fn new(socket: Arc<TcpStream>) -> Self {
        Self(socket)
    }

    /// Ready when the client has hung up. Hyper sees that only if the client has sent nothing that
    /// is still to be read.
    pub(in crate::http) async fn gone(&self) {
        // To tokio the end of the input is part of this interest, and mere input is not.
        let _ = self.0.ready(Interest::PRIORITY).await;
    }
}
