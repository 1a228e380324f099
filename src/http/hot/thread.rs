//! The threads of the hot path.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::error;

use super::event_loop::{Loop, Shared};
use super::mailbox::{Mailbox, Transfer};
use crate::http::meter::Tally;
use crate::store::Store;

/// Pause before another try, if a thread that panicked cannot start again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Starts a thread that serves the connections in `mailbox`, until that says to stop and all requests that
/// came before are answered. Connections that bring a request that is not hot go to `cold`. Answers are
/// counted in `tally`.
///
/// # Errors
///
/// If the system has no more file descriptors or threads.
pub(in crate::http) fn start<S: Store>(
    mailbox: Arc<Mailbox>,
    cold: mpsc::UnboundedSender<Transfer>,
    shared: Shared<S>,
    tally: Arc<Tally>,
) -> io::Result<()> {
    let new =
        move || Loop::new(shared.clone(), Arc::clone(&tally), Arc::clone(&mailbox), cold.clone());
    let mut hot = new()?;
    let serve = move || {
        while catch_unwind(AssertUnwindSafe(|| hot.run())).is_err() {
            error!(
                "a thread of the hot path panicked; its connections are lost, and it starts again"
            );
            // A store that panics again gets no leases back.
            let _ = catch_unwind(AssertUnwindSafe(|| hot.lose_all()));
            hot = loop {
                match new() {
                    Ok(hot) => break hot,
                    Err(_) if hot.mailbox.is_stopping() => return hot.close(),
                    Err(_) => sleep(RETRY_PAUSE),
                }
            }
        }
    };
    Builder::new().name("hot".to_owned()).spawn(serve).map(drop)
}
