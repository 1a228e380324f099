//! Draining: once the server stops, requests in flight are still answered, within limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use super::workers::Workers;
use crate::http::hot::Mailbox;

/// How long operators' connections may take once all other connections have ended.
const ADMIN_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The mailboxes of the hot path's threads. The threads end when this is dropped.
#[derive(Default)]
pub(in crate::http) struct Threads(Vec<Arc<Mailbox>>);

impl Threads {
    pub(in crate::http) fn push(&mut self, mailbox: Arc<Mailbox>) {
        self.0.push(mailbox);
    }

    /// Tells all that the server is about to stop.
    pub(in crate::http) fn drain(&self) {
        self.0.iter().for_each(|mailbox| mailbox.drain());
    }

    /// One for each thread.
    pub(in crate::http) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.0.clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.iter().for_each(|mailbox| mailbox.cut_off());
    }
}

/// What has to end once no more connections are accepted.
pub(in crate::http) struct Drain {
    /// Lets connections end once their requests in flight are answered.
    pub(in crate::http) stop: watch::Sender<()>,
    /// The same for operators' connections.
    pub(in crate::http) end: watch::Sender<()>,
    pub(in crate::http) threads: Threads,
    /// They end once the last connection has ended.
    pub(in crate::http) workers: Workers,
    /// The same for operators' connections, if operators have an address of their own.
    pub(in crate::http) operators: Option<Workers>,
}

impl Drain {
    /// Waits for requests in flight, for `patience` at most. Meanwhile the address for operators is served.
    pub(in crate::http) async fn run(mut self, patience: Duration) {
        self.stop.send_replace(());
        self.threads.0.iter().for_each(|mailbox| mailbox.stop());
        if timeout(patience, self.workers.ended()).await.is_err() {
            info!("requests were still in flight after {patience:?}; they are cut off");
            self.workers.cut_off().await;
        }
        self.end.send_replace(());
        if let Some(operators) = &mut self.operators {
            // A client that has not received its answers by then is cut off.
            let _ = timeout(ADMIN_DRAIN_TIMEOUT, operators.ended()).await;
        }
    }
}
