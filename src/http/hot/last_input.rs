//! What is still read from a connection once the server drains.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;

/// How long a client may take to close its half.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(2);

/// The input of a connection that is about to be closed.
pub(super) struct LastInput {
    /// Bytes that had come by then and were not read yet.
    pub(super) left: u64,
    /// Whether there were any: then its client may still send, and may not have received all answers.
    pub(super) lingers: bool,
    /// Since when all its answers are sent.
    pub(super) finished_at: Option<Instant>,
    /// How many bytes its client has sent in vain since then.
    pub(super) dropped: usize,
}

impl LastInput {
    /// What has come by now. O(1).
    pub(super) fn of(stream: &TcpStream) -> Self {
        let left = ioctl_fionread(stream).unwrap_or(0);
        Self { left, lingers: left > 0, finished_at: None, dropped: 0 }
    }
}
