//! The last step before a command: this program, in the command's process, prepares it and then becomes the
//! command.
//!
//! Only the process itself can ask the system to end it together with its parent, and between `fork` and
//! `exec` nothing can be called without `unsafe`. So this program executes itself there first.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::processes::stop_this;
use super::signals::block_only;

/// The exit status if this program itself fails; `env` and `timeout` use the same.
pub(super) const FAILED: u8 = 125;
/// The exit status if the command cannot be started.
const NOT_STARTED: u8 = 126;
/// The exit status if the command is not found.
const NOT_FOUND: u8 = 127;

/// What `run` tells the process that becomes the command.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The process that runs the command
    #[arg(long)]
    parent: u32,
    /// The signals that the command finds blocked, as bits
    #[arg(long)]
    blocked: u64,
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// The command line that makes this program call [`start`], except for the program.
pub(super) fn arguments(blocked: u64, command: &[OsString]) -> Vec<OsString> {
    let (parent, blocked) = (std::process::id().to_string(), blocked.to_string());
    let own = ["_become", "--parent", &parent, "--blocked", &blocked, "--"];
    own.into_iter().map(OsString::from).chain(command.iter().cloned()).collect()
}

/// Stops until the parent is ready, and becomes the command. Returns only if that failed, with the message
/// for the user and the exit status.
pub(in crate::cli) fn start(args: &Args) -> (String, u8) {
    // The process gets it as this one ends, even by SIGKILL.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return (format!("cannot tie CMD to this program: {error}"), FAILED);
    }
    if getppid().map(Pid::as_raw_pid) != i32::try_from(args.parent).ok() {
        return ("run was killed before CMD could start".to_owned(), FAILED);
    }
    block_only(args.blocked);
    // The parent notices, gives the terminal to the group of this process, and continues it.
    stop_this();
    let program = &args.command[0];
    let error = Command::new(program).args(&args.command[1..]).exec();
    let is_missing = error.kind() == ErrorKind::NotFound;
    let status = if is_missing { NOT_FOUND } else { NOT_STARTED };
    (format!("cannot run {}: {error}", program.display()), status)
}
