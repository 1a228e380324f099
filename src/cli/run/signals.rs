//! Signals that this program gets while it runs a command.
//!
//! All are blocked and read from a descriptor, so that none ends or stops this program before the command
//! was seen to. A fault of this program itself, such as SIGSEGV, ends it all the same.

use std::future::pending;
use std::io;
use std::thread;
use std::time::Duration;

use nix::libc::signalfd_siginfo;
use nix::sys::signal::{SigSet, Signal as Standard, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::clock::now;
use super::processes::{nobody_continues, stop_this};

/// A signal that a process sends again within this time was sent twice for one reason: `timeout` sends each
/// to its command and to its whole group.
const SAME: Duration = Duration::from_millis(250);
/// The code of a signal that the system itself sent, as it does if a key of the terminal is pressed.
const BY_SYSTEM: i32 = 0x80;
/// Signals above these have no names, and each that is sent counts.
const STANDARD_MAX: i32 = 31;

/// A signal that arrived.
pub(super) struct Received {
    pub(super) number: i32,
    pub(super) means: Means,
    /// Whether the system sent the signal, as it does if a key of the terminal is pressed.
    pub(super) is_from_terminal: bool,
}

/// What a signal does to a program that does not handle it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Means {
    /// A child has stopped or ended.
    Child,
    /// It stops.
    Stop,
    /// It goes on.
    Continue,
    /// Nothing.
    Nothing,
    /// It ends.
    End,
}

/// Catches signals for as long as the program runs.
pub(super) struct Signals {
    arrived: mpsc::UnboundedReceiver<signalfd_siginfo>,
    /// Signals that were ignored when this program began, as bits; signal 1 is the lowest bit.
    ignored: u64,
    /// Signals that were blocked then.
    blocked: u64,
    /// The latest signal that a process sent: its number, the sender, and when it was read.
    latest: Option<(i32, u32, Duration)>,
}

impl Signals {
    /// Begins to catch signals, except those that this program inherited as ignored, as from `nohup`: the
    /// command inherits them as ignored, too.
    ///
    /// This must be called before any thread is started, because threads inherit what is blocked.
    ///
    /// # Errors
    ///
    /// If the system has no more file descriptors or threads.
    pub(super) fn new() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = |name| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
        };
        let (ignored, blocked) = (mask("SigIgn:"), mask("SigBlk:"));
        let all = SigSet::all();
        all.thread_block()?;
        let source = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC)?;
        let (sender, arrived) = mpsc::unbounded_channel();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            loop {
                // The receiver is gone when the program ends.
                if let Ok(Some(info)) = source.read_signal() {
                    let _ = sender.send(info);
                }
            }
        })?;
        // Rust ignores SIGPIPE in every program, so nobody can tell whether it was ignored before.
        let ignored = ignored & !bit(Signal::PIPE.as_raw()) & !bit(Signal::CHILD.as_raw());
        Ok(Self { arrived, ignored, blocked, latest: None })
    }

    /// Signals that were blocked when this program began, as bits. O(1).
    pub(super) fn blocked(&self) -> u64 {
        self.blocked
    }

    /// Waits for the next signal. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            let Some(info) = self.arrived.recv().await else { return pending().await };
            let number = info.ssi_signo.cast_signed();
            if self.ignored & bit(number) == 0 && !self.is_echo(&info) {
                let is_from_terminal = info.ssi_code == BY_SYSTEM;
                return Received { number, means: means(number), is_from_terminal };
            }
        }
    }

    /// Waits for a signal that ends a program, and stops at those that stop one. Returns its number.
    pub(super) async fn next_end(&mut self) -> i32 {
        loop {
            let signal = self.next().await;
            match signal.means {
                Means::End => return signal.number,
                Means::Stop if !nobody_continues() => stop_this(),
                _ => {}
            }
        }
    }

    /// Whether this program sent the signal itself, or the signal is the latest one again.
    fn is_echo(&mut self, info: &signalfd_siginfo) -> bool {
        let (number, sender) = (info.ssi_signo.cast_signed(), info.ssi_pid);
        if sender == 0 || info.ssi_code == BY_SYSTEM || means(number) == Means::Child {
            return false;
        }
        let (latest, now) = (self.latest, now());
        self.latest = Some((number, sender, now));
        let is_again = latest.is_some_and(|(number_then, sender_then, then)| {
            (number_then, sender_then) == (number, sender) && now.saturating_sub(then) < SAME
        });
        sender == std::process::id() || is_again && number <= STANDARD_MAX
    }
}

fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

fn means(number: i32) -> Means {
    match Signal::from_named_raw(number) {
        Some(Signal::CHILD) => Means::Child,
        Some(Signal::TSTP | Signal::TTIN | Signal::TTOU) => Means::Stop,
        Some(Signal::CONT) => Means::Continue,
        Some(Signal::URG | Signal::WINCH) => Means::Nothing,
        _ => Means::End,
    }
}

/// Blocks these signals, given as bits, and no others.
///
/// Real-time signals cannot be named one by one, so none of them is blocked afterwards.
pub(super) fn block_only(blocked: u64) {
    let names = (1..=STANDARD_MAX).filter(|number| blocked & bit(*number) != 0);
    let set: SigSet = names.filter_map(|number| Standard::try_from(number).ok()).collect();
    // It fails only if a number is wrong.
    let _ = set.thread_set_mask();
}

/// Ends this program by SIGINT, so that the shell that waits for it knows that Ctrl-C ended it.
pub(super) fn die_of_interrupt() {
    block_only(0);
    // To this thread alone, so that the thread that reads signals cannot take it.
    let _ = raise(Standard::SIGINT);
}
