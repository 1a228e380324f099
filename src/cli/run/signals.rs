//! Signals that are forwarded to the command.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc;

const FORWARDED: [i32; 6] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2];

/// A signal that arrived.
pub(super) struct Received {
    pub(super) number: i32,
    /// Whether a terminal sent the signal; it sends the signal to the command as well.
    pub(super) is_from_terminal: bool,
}

/// Catches signals for as long as the program runs.
pub(super) struct Signals(mpsc::UnboundedReceiver<Received>);

impl Signals {
    /// Begins to catch signals, except those that this program inherited as ignored, as from `nohup`: the
    /// command inherits them as ignored, too.
    ///
    /// # Errors
    ///
    /// If the system has no more file descriptors or threads.
    pub(super) fn new() -> io::Result<Self> {
        let ignored = ignored();
        let caught = FORWARDED.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                let is_from_terminal = matches!(origin.cause, Cause::Kernel);
                // The receiver is gone when the program ends.
                let _ = sender.send(Received { number: origin.signal, is_from_terminal });
            }
        })?;
        Ok(Self(receiver))
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// The signals that are ignored, as bits; signal 1 is the lowest bit.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
