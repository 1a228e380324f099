//! The client of a request, as far as handlers need it.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::places::Turns;

/// The connection of a client. Handlers can ask whether the client has hung up.
#[derive(Clone)]
pub(in crate::http) struct Client {
    socket: Arc<TcpStream>,
    /// Several requests share the connection, so one may be cancelled while the others go on.
    is_shared: bool,
    pub(super) turns: Turns,
}

impl Client {
    pub(in crate::http) fn new(socket: Arc<TcpStream>, is_shared: bool, turns: Turns) -> Self {
        Self { socket, is_shared, turns }
    }

    /// Its address, if it is kept for the audit log. O(1).
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.turns.address()
    }

    /// Completes when the client has hung up. Hyper notices that only if it has read all that the client has
    /// sent.
    pub(in crate::http) async fn gone(&self) {
        // For tokio, this interest includes the end of the input, but not input itself.
        let _ = self.socket.ready(Interest::PRIORITY).await;
    }

    /// Ready when the connection was reset: the client takes no answer any more. One that has only
    /// closed its half still does.
    pub(in crate::http) async fn reset(&self) {
        let _ = self.socket.ready(Interest::ERROR).await;
    }

    /// Whether the client has hung up by now, even if the runtime has not noticed yet. If it has cancelled its
    /// request alone, the caller is dropped meanwhile.
    pub(super) async fn has_hung_up(&self) -> bool {
        if self.is_shared {
            // Meanwhile the task of the connection reads what has come.
            yield_now().await;
            // Hyper asks whether the request was cancelled only after it has found the handler waiting.
            yield_now().await;
        }
        has_hung_up(&self.socket)
    }
}

/// Whether the client at the other end of a socket has gone, or has closed its half and so does not wait for a key
/// any more. O(1).
pub(in crate::http) fn has_hung_up(socket: impl AsFd) -> bool {
    let ending = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut peer = [PollFd::new(&socket, PollFlags::RDHUP)];
    let polled = poll(&mut peer, Some(&Timespec::default()));
    polled.is_ok() && peer[0].revents().intersects(ending)
}
