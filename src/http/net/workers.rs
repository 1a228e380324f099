//! The threads that serve connections with hyper.
//!
//! Each has a runtime of its own, and a connection stays with its thread. The allocator gives memory back to
//! the system only if the thread that allocated it frees it, or allocates again later. On a runtime whose
//! threads steal tasks from each other, most of the memory of a rush of connections stayed resident: 130 MB
//! after 10,000 of them.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{Handler, Server};
use crate::http::hot::Transfer;

/// The most threads for blocking calls, of all runtimes together.
const BLOCKING_THREADS_MAX: usize = 512;

/// The threads. They end when no more connections can come and all have ended, or when this is dropped.
pub(in crate::http) struct Workers {
    cut_off: watch::Sender<()>,
    /// Closed when the last thread ends.
    ended: mpsc::Receiver<()>,
    runtimes: Vec<Handle>,
}

/// Sends connections to one of the threads.
pub(in crate::http) type Handover = mpsc::UnboundedSender<Transfer>;

impl Workers {
    /// Starts `count` threads, and returns what sends connections to each. After `stopped` has changed, their
    /// connections end once their requests in flight are answered.
    ///
    /// # Errors
    ///
    /// If the system has no more file descriptors or threads.
    pub(in crate::http) fn start<H: Handler>(
        server: &Arc<Server<H>>,
        count: usize,
        stopped: &watch::Receiver<()>,
    ) -> io::Result<(Self, Vec<Handover>)> {
        let (cut_off, is_cut_off) = watch::channel(());
        let (ending, ended) = mpsc::channel(1);
        let mut handovers = Vec::with_capacity(count);
        let mut runtimes = Vec::with_capacity(count);
        for _ in 0..count {
            let (handover, arrivals) = mpsc::unbounded_channel();
            handovers.push(handover);
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads((BLOCKING_THREADS_MAX / count).max(1))
                .build()?;
            runtimes.push(runtime.handle().clone());
            let connections = serve(Arc::clone(server), arrivals, stopped.clone());
            let (is_cut_off, ending) = (is_cut_off.clone(), ending.clone());
            let work = move || {
                run(runtime, connections, is_cut_off);
                drop(ending);
            };
            thread::Builder::new().name("worker".to_owned()).spawn(work)?;
        }
        Ok((Self { cut_off, ended, runtimes }, handovers))
    }

    /// The runtime of each thread.
    pub(super) fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// Ready when all threads have ended.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent.
        let _ = self.ended.recv().await;
    }

    /// Ends all threads, whatever they are doing.
    pub(super) async fn cut_off(&mut self) {
        self.cut_off.send_replace(());
        self.ended().await;
    }
}

fn run(runtime: Runtime, connections: impl Future<Output = ()>, mut cut_off: watch::Receiver<()>) {
    runtime.block_on(async {
        tokio::select! {
            () = connections => {}
            // It fails once the sender was dropped, which means the same.
            _ = cut_off.changed() => {}
        }
    });
    // Blocking calls may take long, and nobody waits for them.
    runtime.shutdown_background();
}

/// Serves the connections that come, until no more can come and all have ended.
async fn serve<H: Handler>(
    server: Arc<Server<H>>,
    mut arrivals: mpsc::UnboundedReceiver<Transfer>,
    stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    let (sessions, mut ended_sessions) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            connection = arrivals.recv() => {
                let Some(connection) = connection else { break };
                server.spawn(&mut connections, connection, stopped.clone(), &sessions);
            }
            // Sessions that have ended, wherever that was, are freed here.
            Some(_) = ended_sessions.recv() => {}
            // Joined early, so that the memory of an ended task is freed.
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}
