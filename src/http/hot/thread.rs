//! The threads of the hot path.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::error;

use super::event_loop::{Loop, Other, Shared};
use super::mailbox::Mailbox;
use crate::store::Store;

/// Until a thread that panicked tries again to begin anew.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Starts a thread that serves the connections that come by `mailbox`, until that says to stop and
/// all that came before is answered. Those that are not hot go to `others`.
///
/// # Errors
///
/// If the system has no more file descriptors or threads.
pub(in crate::http) fn start<S: Store>(
    mailbox: Arc<Mailbox>,
    others: mpsc::UnboundedSender<Other>,
    shared: Shared<S>,
) -> io::Result<()> {
    let (runtime, stopping) = (Handle::current(), Arc::clone(&mailbox));
    let tally = shared.metrics.of_thread();
    let new = move || {
        let (runtime, mailbox) = (runtime.clone(), Arc::clone(&mailbox));
        Loop::new(shared.clone(), Arc::clone(&tally), runtime, mailbox, others.clone())
    };
    let mut hot = new()?;
    let serve = move || {
        while catch_unwind(AssertUnwindSafe(|| hot.run())).is_err() {
            error!("a thread panicked; its connections are lost, and it begins anew");
            hot = loop {
                match new() {
                    Ok(hot) => break hot,
                    Err(_) if stopping.is_stopping() => return,
                    Err(_) => sleep(PANIC_PAUSE),
                }
            }
        }
    };
    Builder::new().name("hot".to_owned()).spawn(serve).map(drop)
}
