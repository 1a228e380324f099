//! `run`: a command with a leased key.

mod keeper;
mod signals;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use self::keeper::{Keeper, LeaseOptions};
use self::signals::Signals;
use super::client::Server;
use super::report::report;
use crate::config::parse_max_ms;

/// The variable that names the key to the command.
const KEY: &str = "TOKEN_ORCHESTRATOR_KEY";
/// The exit status if this program itself fails; `env` and `timeout` use the same.
const FAILED: u8 = 125;
/// The exit status if the command cannot be started.
const NOT_STARTED: u8 = 126;
/// The exit status if the command is not found.
const NOT_FOUND: u8 = 127;
/// How many keys are tried if each of them is lost right after its lease began.
const TRIES_MAX: u32 = 10;

/// The command to run, and how to lease its key.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    options: LeaseOptions,
    /// How long CMD may take to end after SIGTERM once the lease is lost; then it gets SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_max_ms)]
    kill_after: u32,
    /// The command and its arguments, such as -- ./worker --fast
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs a command with a key and returns the exit status.
///
/// # Errors
///
/// The message to print and the exit status, if no key could be leased or the command did not start.
pub(super) async fn run(args: Args) -> Result<u8, (String, u8)> {
    let failed = |why: String| (why, FAILED);
    // From here on signals are forwarded to the command, or end the wait for a key.
    let mut signals = Signals::new().map_err(|error| failed(error.to_string()))?;
    let mut keeper = match find(args.server, args.options, &mut signals).await {
        Ok(keeper) => keeper,
        Err(NoKey::Signal(signal)) => return Ok(killed_by(signal)),
        Err(NoKey::Failed(why)) => return Err(failed(why)),
    };
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env(KEY, keeper.id());
    let ended = match command.spawn() {
        Ok(child) => {
            let grace = Duration::from_millis(args.kill_after.into());
            supervise(child, grace, &mut keeper, &mut signals).await
        }
        Err(error) => Err(error),
    };
    release(&keeper, &mut signals).await;
    let code = |status: ExitStatus| status.code().map(low_byte);
    ended
        .map(|status| code(status).unwrap_or_else(|| killed_by(status.signal().unwrap_or(0))))
        .map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let status = if is_missing { NOT_FOUND } else { NOT_STARTED };
            (format!("cannot run {}: {error}", args.command[0].display()), status)
        })
}

/// Why there is no key.
enum NoKey {
    /// This program got a signal, by its number.
    Signal(i32),
    /// The message for the user.
    Failed(String),
}

/// Leases a key and makes sure that its lease and its life last.
async fn find(
    server: Server,
    options: LeaseOptions,
    signals: &mut Signals,
) -> Result<Keeper, NoKey> {
    let (client, began) = (server.client().map_err(NoKey::Failed)?, Instant::now());
    let mut tries = 0;
    loop {
        tries += 1;
        // A request that is cut off while it waits leases no key. If its answer is on the way already, the
        // lease times out.
        let leased = tokio::select! {
            biased;
            signal = signals.next() => return Err(NoKey::Signal(signal.number)),
            leased = Keeper::lease(client.clone(), options, began) => leased,
        };
        let mut keeper = leased.map_err(NoKey::Failed)?;
        let why = tokio::select! {
            biased;
            signal = signals.next() => NoKey::Signal(signal.number),
            result = keeper.begin() => match result {
                Ok(()) => return Ok(keeper),
                // The key may have been about to expire.
                Err(failure)
                    if failure.is_final() && tries < TRIES_MAX && began.elapsed() < options.wait_max() =>
                {
                    continue;
                }
                Err(failure) => NoKey::Failed(failure.message(keeper::KEY_GONE)),
            },
        };
        release(&keeper, signals).await;
        return Err(why);
    }
}

/// Releases a key. A signal cuts that short.
async fn release(keeper: &Keeper, signals: &mut Signals) {
    tokio::select! {
        () = keeper.release() => {}
        _ = signals.next() => {}
    }
}

/// Waits for the command to end. Renews its lease and forwards signals meanwhile.
async fn supervise(
    mut child: Child,
    grace: Duration,
    keeper: &mut Keeper,
    signals: &mut Signals,
) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let mut keeping = pin!(keeper.keep());
    let mut kill_at = None;
    loop {
        tokio::select! {
            biased;
            ended = child.wait() => return ended,
            signal = signals.next() => {
                if let Some(number) = Signal::from_named_raw(signal.number)
                    && !signal.is_from_terminal
                {
                    send(pid, number);
                }
            }
            why = &mut keeping, if kill_at.is_none() => {
                send(pid, Signal::TERM);
                report(&format!("error: the lease is lost: {why} The command gets SIGTERM."));
                kill_at = Some(Instant::now() + grace);
            }
            () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                child.start_kill()?;
                return child.wait().await;
            }
        }
    }
}

fn send(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // The child was not waited for yet, so no other process has its number.
        let _ = kill_process(pid, signal);
    }
}

fn killed_by(signal: i32) -> u8 {
    low_byte(128 + signal)
}

fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}
