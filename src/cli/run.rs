//! `run`: a command with a leased key.

mod clock;
mod grace;
mod job;
mod keeper;
mod processes;
mod signals;
mod start;
mod supervise;
mod terminal;

use std::ffi::OsString;
use std::time::Duration;

use rustix::process::WaitStatus;

use self::clock::{now, since};
use self::grace::Grace;
use self::job::Job;
use self::keeper::{Keeper, LeaseOptions, Unfit};
use self::processes::own_group;
use self::signals::{Signals, die_of_interrupt};
use self::start::FAILED;
pub(super) use self::start::{Args as StartArgs, start};
use self::supervise::{Ended, supervise};
use self::terminal::Terminal;
use super::client::{Client, Server};
use super::common::{OfPool, POOL};
use super::trust::TOKEN;
use crate::config::parse_max_ms;

/// The variable that names the key to the command.
const KEY: &str = "TOKEN_ORCHESTRATOR_KEY";
/// The exit status if an option is wrong.
const WRONG_OPTION: u8 = 2;
/// The exit status if the lease was lost; `timeout` uses the same if the time is up.
const LOST: u8 = 124;
/// How many keys are tried if each of them is lost right after its lease began.
const TRIES_MAX: u32 = 10;

/// The command to run, and how to lease its key.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: OfPool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    options: LeaseOptions,
    /// How long CMD may take to end after SIGTERM; then it gets SIGKILL. At most three quarters of the lease,
    /// less the margin before its end. By default 10s, or a quarter of the lease if that is shorter
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    kill_after: Option<u32>,
    /// Give CMD the value of the key in this variable, such as `OPENAI_API_KEY`. If the key has none, CMD is not
    /// started
    #[arg(long, value_name = "NAME", value_parser = parse_variable)]
    value_env: Option<String>,
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
    let kill_after = args.kill_after.map(|ms| Duration::from_millis(ms.into()));
    if let Some(lease) = args.options.lease() {
        Grace::new(kill_after, lease).map_err(|why| (why, WRONG_OPTION))?;
    }
    // From here on signals are passed on to the command, or end the wait for a key.
    let mut signals = Signals::new().map_err(|error| (error.to_string(), FAILED))?;
    let OfPool { pool } = args.of;
    let client = args.server.client().map_err(|why| (why, FAILED))?.of_pool(pool.clone());
    let needs_value = args.value_env.is_some();
    let keeper = match find(&client, &args.options, kill_after, needs_value, &mut signals).await {
        Ok(keeper) => keeper,
        Err(NoKey::Signal(signal)) => return Ok(killed_by(signal)),
        Err(NoKey::Failed(why, status)) => return Err((why, status)),
    };
    let job = Job::start(&args.command, signals.blocked(), |command| {
        // The command gets a key, not the right to lease others.
        command.env(KEY, keeper.id()).env_remove(TOKEN);
        command.envs(pool.map(|pool| (POOL, pool.to_string())));
        command.envs(args.value_env.zip(keeper.value()));
    });
    let ended = match job {
        Ok(job) => Ok(supervise(job, Terminal::new(own_group()), &keeper, &mut signals).await),
        Err(error) => Err((format!("cannot start CMD: {error}"), FAILED)),
    };
    release(&keeper, &mut signals).await;
    let ended = ended?;
    if ended.is_interrupted && !processes::nobody_continues() {
        die_of_interrupt();
    }
    Ok(exit_status(&ended))
}

fn exit_status(ended: &Ended) -> u8 {
    const KILLED: i32 = 9;
    let by = ended.status.and_then(WaitStatus::terminating_signal);
    if ended.is_lost && by != Some(KILLED) {
        return LOST;
    }
    let status = ended.status.and_then(WaitStatus::exit_status);
    status.map_or_else(|| killed_by(by.unwrap_or(0)), low_byte)
}

/// Why there is no key.
enum NoKey {
    /// This program got a signal, by its number.
    Signal(i32),
    /// The message for the user, and the exit status.
    Failed(String, u8),
}

/// Leases a key and makes sure that its lease and its life last, and that it has a value if that is needed.
async fn find(
    client: &Client,
    options: &LeaseOptions,
    kill_after: Option<Duration>,
    needs_value: bool,
    signals: &mut Signals,
) -> Result<Keeper, NoKey> {
    let failed = |why| NoKey::Failed(why, FAILED);
    let (began, mut tries) = (now(), 0);
    loop {
        tries += 1;
        // A request that is cut off while it waits leases no key. If its answer is on the way already, the
        // lease times out.
        let leased = tokio::select! {
            biased;
            signal = signals.next_end() => return Err(NoKey::Signal(signal)),
            leased = Keeper::lease(client.clone(), options.clone(), began) => leased,
        };
        let mut keeper = leased.map_err(failed)?;
        if let Some(why) = needs_value.then(|| unfit_value(keeper.value())).flatten() {
            release(&keeper, signals).await;
            return Err(failed(why.to_owned()));
        }
        let why = tokio::select! {
            biased;
            signal = signals.next_end() => NoKey::Signal(signal),
            result = keeper.begin(kill_after) => match result {
                Ok(()) => return Ok(keeper),
                // The key may have been about to expire.
                Err(Unfit::Lost(failure))
                    if failure.is_final() && tries < TRIES_MAX && since(began) < options.wait_max() =>
                {
                    continue;
                }
                Err(Unfit::Lost(failure)) => failed(failure.message(keeper::KEY_GONE)),
                Err(Unfit::TooShort(why)) => NoKey::Failed(why, WRONG_OPTION),
            },
        };
        release(&keeper, signals).await;
        return Err(why);
    }
}

/// Why the value of a key cannot be given in a variable, if it cannot.
fn unfit_value(value: Option<&str>) -> Option<&'static str> {
    match value {
        Some(value) if !value.contains('\0') => None,
        Some(_) => Some(
            "the value of the leased key has a NUL character, which no variable can have, so CMD was not started: \
             import the key with another value, or leave --value-env out.",
        ),
        None => Some(
            "the leased key has no value for --value-env, so CMD was not started: `import` makes keys with values. \
             Use a pool where all keys have one, choose such keys with --label, or leave --value-env out.",
        ),
    }
}

/// Reads the name of a variable for the value of a key. Those of this program mean something else.
fn parse_variable(text: &str) -> Result<String, String> {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name =
        text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    if !is_name {
        return Err("must be the name of a variable, such as OPENAI_API_KEY".to_owned());
    }
    if text.starts_with("TOKEN_ORCHESTRATOR_") {
        return Err(
            "must be a variable that this program does not use itself, such as OPENAI_API_KEY"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Releases a key. A signal cuts that short.
async fn release(keeper: &Keeper, signals: &mut Signals) {
    tokio::select! {
        () = keeper.release() => {}
        _ = signals.next_end() => {}
    }
}

fn killed_by(signal: i32) -> u8 {
    low_byte(128 + signal)
}

fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}
