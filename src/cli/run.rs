//! `run`: a command that has a key for as long as it runs.

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

use self::keeper::{Keeper, Terms};
use self::signals::Signals;
use super::client::Server;
use super::tell::tell;
use crate::config::parse_max_ms;

/// What the command finds its key in.
const KEY: &str = "TOKEN_ORCHESTRATOR_KEY";
/// The exit status if this program itself fails, as of env, timeout and the like.
const FAILED: u8 = 125;
/// The same if the command cannot be started.
const NOT_STARTED: u8 = 126;
/// The same if there is no such command.
const NO_COMMAND: u8 = 127;
/// How many keys that die or are lost at once are tried.
const TRIES_MAX: u32 = 10;

/// What to run, and with what kind of a lease.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    terms: Terms,
    /// How long CMD may take to end once its lease is lost
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_max_ms)]
    kill_after: u32,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs a command with a key; answers with the exit status.
///
/// # Errors
///
/// What to tell and the exit status, if there was no key or no command.
pub(super) async fn run(args: Args) -> Result<u8, (String, u8)> {
    let failed = |why: String| (why, FAILED);
    // From here on signals are for the command, or end the search for a key.
    let mut signals = Signals::new().map_err(|error| failed(error.to_string()))?;
    let mut keeper = match find(args.server, args.terms, &mut signals).await {
        Ok(keeper) => keeper,
        Err(End::Killed(signal)) => return Ok(killed_by(signal)),
        Err(End::Failed(why)) => return Err(failed(why)),
    };
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env(KEY, keeper.id());
    let ended = match command.spawn() {
        Ok(child) => {
            let grace = Duration::from_millis(args.kill_after.into());
            attend(child, grace, &mut keeper, &mut signals).await
        }
        Err(error) => Err(error),
    };
    give_back(&keeper, &mut signals).await;
    let code = |status: ExitStatus| status.code().map(low_byte);
    ended
        .map(|status| code(status).unwrap_or_else(|| killed_by(status.signal().unwrap_or(0))))
        .map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let status = if is_missing { NO_COMMAND } else { NOT_STARTED };
            (format!("cannot run {}: {error}", args.command[0].display()), status)
        })
}

/// Why there is no key.
enum End {
    Killed(i32),
    Failed(String),
}

/// Finds a key that is there to stay.
async fn find(server: Server, terms: Terms, signals: &mut Signals) -> Result<Keeper, End> {
    let (client, began) = (server.client().map_err(End::Failed)?, Instant::now());
    let mut tries = 0;
    loop {
        tries += 1;
        // Whoever hangs up while it waits takes no key with it; if the answer is on its way already,
        // the key is free when the lease ends.
        let leased = tokio::select! {
            biased;
            signal = signals.next() => return Err(End::Killed(signal.number)),
            leased = Keeper::lease(client.clone(), terms, began) => leased,
        };
        let mut keeper = leased.map_err(End::Failed)?;
        let why = tokio::select! {
            biased;
            signal = signals.next() => End::Killed(signal.number),
            result = keeper.begin() => match result {
                Ok(()) => return Ok(keeper),
                // It was about to die, perhaps.
                Err(failure)
                    if failure.is_final() && tries < TRIES_MAX && began.elapsed() < terms.longest() =>
                {
                    continue;
                }
                Err(failure) => End::Failed(failure.message(keeper::DEAD)),
            },
        };
        give_back(&keeper, signals).await;
        return Err(why);
    }
}

/// Gives a key back, unless a signal wants the program to end.
async fn give_back(keeper: &Keeper, signals: &mut Signals) {
    tokio::select! {
        () = keeper.release() => {}
        _ = signals.next() => {}
    }
}

/// Waits for the end of the command, keeps its key meanwhile, and passes signals on.
async fn attend(
    mut child: Child,
    grace: Duration,
    keeper: &mut Keeper,
    signals: &mut Signals,
) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let mut keeping = pin!(keeper.keep());
    let mut deadly = None;
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
            why = &mut keeping, if deadly.is_none() => {
                send(pid, Signal::TERM);
                tell(&format!("error: the lease is lost: {why} The command is told to end."));
                deadly = Some(Instant::now() + grace);
            }
            () = sleep_until(deadly.unwrap_or_else(Instant::now)), if deadly.is_some() => {
                child.start_kill()?;
                return child.wait().await;
            }
        }
    }
}

fn send(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // It is this program's child and was not waited for, so it is the right one.
        let _ = kill_process(pid, signal);
    }
}

fn killed_by(signal: i32) -> u8 {
    low_byte(128 + signal)
}

fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}
