//! `run`: a command that has a key for as long as it runs.

mod keeper;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::future::select_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep_until};

use self::keeper::{Keeper, Terms};
use super::client::Server;

/// What the command finds its key in.
const KEY: &str = "TOKEN_ORCHESTRATOR_KEY";
/// The exit status if this program itself fails, as of env, timeout and the like.
const FAILED: u8 = 125;
/// The same if the command cannot be started.
const NOT_STARTED: u8 = 126;
/// The same if there is no such command.
const NO_COMMAND: u8 = 127;
/// How long a command that has lost its key may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// What to run, and with what kind of a lease.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    terms: Terms,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
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
    let leased = tokio::select! {
        leased = Keeper::lease(args.server.client(), args.terms) => leased,
        signal = signals.next() => return Ok(killed_by(signal.as_raw())),
    };
    let mut keeper = leased.map_err(failed)?;
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env(KEY, keeper.id());
    let ended = match command.spawn() {
        Ok(child) => attend(child, &mut keeper, &mut signals).await,
        Err(error) => Err(error),
    };
    keeper.release().await;
    ended
        .map(|status| {
            status.code().map_or_else(|| killed_by(status.signal().unwrap_or(0)), low_byte)
        })
        .map_err(|error| {
            let status = if error.kind() == ErrorKind::NotFound { NO_COMMAND } else { NOT_STARTED };
            (format!("cannot run {}: {error}", args.command[0].display()), status)
        })
}

/// Waits for the end of the command, keeps its key meanwhile, and passes signals on.
async fn attend(
    mut child: Child,
    keeper: &mut Keeper,
    signals: &mut Signals,
) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let mut deadly = None;
    loop {
        tokio::select! {
            biased;
            ended = child.wait() => return ended,
            signal = signals.next() => send(pid, signal),
            why = keeper.keep(), if deadly.is_none() => {
                eprintln!("error: the lease is lost: {why} The command is told to end.");
                send(pid, Signal::TERM);
                deadly = Some(Instant::now() + GRACE);
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

/// Signals that are meant for the command.
struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    fn new() -> io::Result<Self> {
        let mut passed_on = vec![
            (Signal::TERM, SignalKind::terminate()),
            (Signal::HUP, SignalKind::hangup()),
            (Signal::USR1, SignalKind::user_defined1()),
            (Signal::USR2, SignalKind::user_defined2()),
        ];
        let from_keys =
            [(Signal::INT, SignalKind::interrupt()), (Signal::QUIT, SignalKind::quit())];
        passed_on.extend(from_keys);
        let listen = |(signal, kind)| unix::signal(kind).map(|stream| (signal, stream));
        passed_on.into_iter().map(listen).collect::<io::Result<_>>().map(Self)
    }

    /// The next one. Those that a terminal's keys make go to the command as well, without this.
    async fn next(&mut self) -> Signal {
        loop {
            let next = self.0.iter_mut().map(|(signal, stream)| {
                Box::pin(async {
                    stream.recv().await;
                    *signal
                })
            });
            let (signal, ..) = select_all(next).await;
            let is_from_keys = matches!(signal, Signal::INT | Signal::QUIT);
            if !(is_from_keys && io::stdin().is_terminal()) {
                return signal;
            }
        }
    }
}
