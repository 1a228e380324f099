//! How long a connection may rest.

use std::time::Duration;

/// How long a client may do nothing, on every path and in every protocol.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// How long a connection may be without a request. Longer than proxies keep theirs, so that they close first:
    /// a request that meets the server's close is lost.
    pub idle: Duration,
    /// How long a client may take to send the head of a request, to shake hands, or to take what it is sent.
    pub head: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { idle: Duration::from_secs(90), head: Duration::from_secs(30) }
    }
}

impl Timeouts {
    /// The shorter one.
    pub(in crate::http) fn shorter(self) -> Duration {
        self.idle.min(self.head)
    }
}
