//! The data directory of the server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::names::Names;
use super::reading::Reading;
use super::report::report_at_once;
use super::starting::while_starting;
use crate::config::{self, read_file, unusable};
use crate::http::{Access, Listeners, ServeOptions};
use crate::journal::{DataKey, Durability};
use crate::store::{ClockState, DataDirectory, Durable, Memory, Options};
use crate::time::{Clock, SystemClock, Timestamp};

/// How far a clock may be behind without a warning.
const BEHIND_MS: u64 = 5000;

/// The options of the data directory.
#[derive(clap::Args)]
pub(super) struct DataArgs {
    /// Keep all pools in this directory, too, so that they survive a restart, a crash and a loss of power. It is made if
    /// it is not there. Without it, a restart forgets all keys
    #[arg(long, env = "TOKEN_ORCHESTRATOR_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// When an answer may leave: once what it tells of is on disk (commit), or once the system has it (everysec), which
    /// writes it within a second: then a loss of power may cost the last second, and a crash of the server nothing
    #[arg(
        long,
        env = "TOKEN_ORCHESTRATOR_DURABILITY",
        default_value = "commit",
        value_name = "MODE"
    )]
    durability: Mode,
    /// Encrypt the data directory with the key in this file: 64 hexadecimal digits, as `openssl rand -hex 32` prints
    #[arg(long, env = "TOKEN_ORCHESTRATOR_DATA_KEY_FILE", value_name = "FILE")]
    data_key_file: Option<PathBuf>,
    /// After a start, let keys live so long at least that died while no server was running, or are about to, so that their
    /// owners can keep them alive, such as 30s: 0s, or from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_RESTART_GRACE", default_value = "0s",
          value_name = "DURATION", value_parser = config::parse_delay_ms)]
    restart_grace: u32,
}

/// When an answer may leave.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Commit,
    Everysec,
}

impl DataArgs {
    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// A message that names the options in conflict.
    pub(super) fn check(&self, names: &Names) -> Result<(), String> {
        let others = [
            (self.durability != Mode::Commit, "durability"),
            (self.data_key_file.is_some(), "data-key-file"),
            (self.restart_grace > 0, "restart-grace"),
        ];
        match others.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, option)) if self.data_dir.is_none() => {
                Err(format!("{} needs --data-dir DIR", names.name(option)))
            }
            _ => Ok(()),
        }
    }

    fn directory(&self, path: &Path, names: &Names) -> io::Result<DataDirectory> {
        let key = self.data_key_file.as_deref().map(read_key).transpose();
        Ok(DataDirectory {
            path: path.to_owned(),
            durability: match self.durability {
                Mode::Commit => Durability::Commit,
                Mode::Everysec => Durability::EverySecond,
            },
            key: key.map_err(|error| names.blame(&["data-key-file"], &error))?,
            restart_grace_ms: self.restart_grace,
        })
    }
}

/// Reads a key from a file.
fn read_key(path: &Path) -> io::Result<DataKey> {
    let content = read_file(path)?;
    let text = str::from_utf8(&content).unwrap_or_default().trim();
    DataKey::from_hex(text).ok_or_else(|| {
        let form = "it must have 64 hexadecimal digits, as `openssl rand -hex 32` prints them";
        unusable(path, &form)
    })
}

/// Checks that there is a directory, and reads its key.
///
/// # Errors
///
/// What is wrong with either.
pub(super) fn existing(path: &Path, key: Option<&Path>) -> Result<Option<DataKey>, String> {
    if !path.is_dir() {
        let shown = path.display();
        return Err(format!(
            "{shown} is no directory: name the one that --data-dir of the server names"
        ));
    }
    key.map(read_key).transpose().map_err(|error| format!("--data-key-file: {error}"))
}

/// A number of things, such as `1 key` or `2 keys`.
pub(super) fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// A time of a directory's clock, which was the wall clock's when the directory was new.
pub(super) fn display(at: Timestamp) -> String {
    let unix = Duration::from_millis(Timestamp::EPOCH_UNIX_MS + at.as_ms());
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + unix).to_string()
}

/// Opens the store. If that takes a while, clients are told so on copies of the listeners.
///
/// # Errors
///
/// If the directory cannot be used. The message names it.
pub(super) async fn open(
    args: &DataArgs,
    names: &Names,
    options: Options,
    access: &Access,
    listeners: (&mut Listeners, ServeOptions),
) -> io::Result<(Memory<SystemClock>, Option<Durable>)> {
    let Some(path) = &args.data_dir else {
        return Ok((Memory::new(options, SystemClock::new()), None));
    };
    let directory = args.directory(path, names)?;
    let (quotas, shown) = (access.quotas(), path.display().to_string());
    let of_failure = shown.clone();
    // Also if nobody waits for the store any more.
    let reading = Reading::begin();
    let progress = reading.progress();
    let opening = spawn_blocking(move || {
        let failed = move |error: &io::Error| end(&of_failure, error);
        Memory::open(options, &directory, &quotas, clock, Box::new(progress), failed)
    });
    let opened = while_starting(opening, listeners).await?.map_err(io::Error::other)?;
    let (store, durable) = opened.map_err(|error| {
        let error = io::Error::other(format!("cannot use {shown}: {error}"));
        names.blame(&["data-dir"], &error)
    })?;
    Ok((store, Some(durable)))
}

/// The clock of a directory goes on.
fn clock(state: Option<ClockState>) -> SystemClock {
    let Some(ClockState { anchor, seen, reserved }) = state else { return SystemClock::new() };
    let clock = SystemClock::resume(anchor, seen, reserved);
    let ahead_ms = clock.now().ms_since(SystemClock::new().now());
    if ahead_ms > BEHIND_MS {
        warn!(
            "the clock of this machine is {ahead_ms} ms behind that of the data directory: deadlines go on by the latter, so \
             that nothing that was over comes back"
        );
    }
    clock
}

/// Ends the process, because the disk has failed, or a thread that writes to it: what the disk has is not known.
fn end(path: &str, error: &io::Error) {
    error!("{path}: {error}");
    report_at_once(&format!(
        "error: {path}: {error}. So nothing more is acknowledged, and the server ends. What was \
         acknowledged before is on disk, with --durability everysec but for the last second; look at the disk before you \
         start the server again"
    ));
    exit(1);
}
