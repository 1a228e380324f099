//! Signals that are meant for the command.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc;

const PASSED_ON: [i32; 6] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2];

/// A signal that came.
pub(super) struct Received {
    pub(super) number: i32,
    /// A terminal sends its signals to the command as well.
    pub(super) is_from_terminal: bool,
}

/// Catches signals for as long as the program runs.
pub(super) struct Signals(mpsc::UnboundedReceiver<Received>);

impl Signals {
    /// Begins to catch them, but for those that this program was told to ignore: so is the command,
    /// as by nohup.
    pub(super) fn new() -> io::Result<Self> {
        let ignored = ignored();
        let caught = PASSED_ON.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                let is_from_terminal = matches!(origin.cause, Cause::Kernel);
                // Nobody listens any more when the program ends.
                let _ = sender.send(Received { number: origin.signal, is_from_terminal });
            }
        })?;
        Ok(Self(receiver))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// The signals that are ignored, the first in the lowest bit.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
