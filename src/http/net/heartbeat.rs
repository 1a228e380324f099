//! The heartbeat: it goes on only while every thread that serves connections makes progress.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::drain::Threads;
use super::workers::Workers;
use crate::http::hot::Mailbox;

/// What to do at each beat of a server, such as to tell a service manager that it is alive.
///
/// The first beat comes as soon as the server serves. Each returns the pause until the next one, or `None` if
/// there is to be no more. It must not block.
pub type Heartbeat = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// The threads that serve connections.
pub(in crate::http) struct Pulse {
    hot: Vec<Arc<Mailbox>>,
    workers: Vec<Handle>,
}

impl Pulse {
    /// O(threads).
    pub(in crate::http) fn of<'a>(
        hot: &Threads,
        workers: impl IntoIterator<Item = &'a Workers>,
    ) -> Self {
        let workers = workers.into_iter().flat_map(Workers::runtimes).cloned().collect();
        Self { hot: hot.mailboxes(), workers }
    }

    /// Ready when each thread has done something since the call, or has ended. A thread that hangs is awaited
    /// for as long as it hangs. O(threads).
    async fn felt(&self) {
        let (alive, mut all) = mpsc::channel::<Infallible>(1);
        for mailbox in &self.hot {
            mailbox.feel(alive.clone());
        }
        for runtime in &self.workers {
            let alive = alive.clone();
            runtime.spawn(async move { drop(alive) });
        }
        drop(alive);
        // Nothing is sent: the channel closes when the last thread has dropped its sender.
        let _ = all.recv().await;
    }

    /// Beats for ever, as the heartbeat wants it.
    pub(in crate::http) async fn beat(self, heartbeat: Option<Heartbeat>) -> Infallible {
        if let Some(beat) = heartbeat {
            loop {
                self.felt().await;
                let Some(pause) = beat() else { break };
                sleep(pause).await;
            }
        }
        pending().await
    }
}
