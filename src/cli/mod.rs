//! The command line: the server, and a client of it.

mod address;
mod audit;
mod choice;
mod client;
mod commands;
mod common;
mod counts;
mod data;
mod failure;
mod import;
mod inspect;
mod list;
mod listen;
mod log;
mod log_writer;
mod names;
mod pages;
mod pools;
mod progress_bar;
mod reading;
mod ready;
mod reasons;
mod refusals;
mod reload;
mod remote;
mod repair;
mod report;
mod run;
mod serve;
mod service;
mod settings;
mod starting;
mod table;
mod token;
mod trust;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::names::{Names, each_argument, without_variable};
use self::report::{print, report};

/// A server that leases random free keys from a pool, and a client for it.
#[derive(Parser)]
#[command(name = "token-orchestrator", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Exit status of the server: 0 after SIGTERM or Ctrl-C, 2 if an option is wrong, 1 after any \
                        other error. Exit status of the other commands: 0 on success, 1 on failure, 2 if an \
                        option is wrong; `run --help` describes that of run. RUST_LOG=debug logs more."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
    /// What the user calls the options.
    #[arg(skip)]
    names: Names,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server; this is the default
    Serve(serve::Args),
    /// Makes the tokens that clients authenticate with
    #[command(subcommand)]
    Token(token::Command),
    /// Looks at a data directory, copies it, or repairs it
    #[command(subcommand)]
    Data(inspect::Command),
    #[command(flatten)]
    Client(commands::Command),
    /// Imports keys with values of their own, such as API keys of a provider
    ///
    /// Each line of FILE is the value of a key. A line that begins with { is JSON, with labels that leases can choose
    /// by: {"value":"sk-1","labels":{"plan":"pro"}}. Empty lines are skipped. A value has 1 to 4096 characters.
    ///
    /// A value that the pool has already is not added again, so a file can be imported twice. A line that is refused
    /// is named with its number and the reason, the others are imported, and the exit status is 1. Where tokens are
    /// required, this takes one with the role admin.
    ///
    /// Values are secrets: this command prints none, and only leases give them. By default keys live for the time that
    /// is set for their pool without a keep-alive: for keys of your own, `pool set NAME --key-ttl never` sets no end.
    Import(import::Args),
    #[command(flatten)]
    Pools(pools::Command),
    /// Runs a command with a leased key
    ///
    /// Leases a key, sets `TOKEN_ORCHESTRATOR_KEY` to its id for CMD, renews the lease and keeps the key
    /// alive while CMD runs, and releases the key when CMD has ended. CMD does not get
    /// `TOKEN_ORCHESTRATOR_TOKEN`. With --pool it gets `TOKEN_ORCHESTRATOR_POOL`, so that commands that it runs are
    /// about the same pool. With --value-env it gets the value of the key.
    ///
    /// CMD runs in a process group of its own. When it has ended, every process that it has started and that
    /// still runs gets SIGTERM, and SIGKILL after --kill-after, whatever its group or session. The key is
    /// released after that.
    ///
    /// The lease is lost if the server does not answer in time, or if another client releases or deletes the
    /// key; this program notices the latter within a third of the lease, and within 20 seconds. Then CMD and
    /// every process that it has started get SIGTERM, and SIGKILL after --kill-after. While the server does
    /// not answer, this program tries again and again. SIGTERM comes so early that SIGKILL comes before the
    /// lease ends, by a hundredth of the lease and at least 100ms. The lease counts from the moment when its
    /// latest renewal was sent, by a clock that nobody sets and that counts the time of a suspension. So the
    /// time that the network takes makes the end earlier, and clocks need not agree; the margin is for clocks
    /// that run faster or slower, and for the time that the system takes to end a process.
    ///
    /// Signals that this program gets are passed on: SIGINT, SIGQUIT and SIGTERM to CMD's process group, the
    /// others to CMD. Signals that were ignored when this program started stay ignored. Of equal signals that
    /// one process sends within 250 ms, as timeout does, one is passed on. If this program is stopped, as by
    /// Ctrl-Z, every process of CMD is stopped before, and continued with this program, unless the lease has
    /// been lost meanwhile.
    ///
    /// SIGKILL and SIGSTOP cannot be handled. If this program gets SIGKILL, so does CMD, but for one that has
    /// changed its user; processes that CMD has started go on, and the lease times out. While this program is
    /// stopped by SIGSTOP, CMD goes on and its lease may end.
    ///
    /// Exit status: that of CMD, or 128 plus the number of the signal that ended CMD, or that ended this
    /// program while it waited for a key. 124 if the lease was lost, or 137 if CMD then had to be ended by
    /// SIGKILL. 125 if no key could be leased, or if it has no value for --value-env. 126 if CMD cannot be
    /// started, 127 if CMD is not found, 2 if an option is wrong, such as a --kill-after that the lease does
    /// not allow. If Ctrl-C ended CMD in a terminal, this program ends by SIGINT, too.
    Run(run::Args),
    /// Becomes a command: `run` executes this in the process of its command
    #[command(hide = true, name = "_become")]
    Start(run::StartArgs),
}

/// Reads the command line and the environment.
///
/// # Errors
///
/// The exit status, after the error was reported. Prints help and version and exits if they were asked
/// for.
pub fn parse() -> Result<Cli, ExitCode> {
    let mut command = Cli::command();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let first = arguments.get(1).cloned().unwrap_or_default();
    if first != "serve" && command.find_subcommand(&first).is_some() {
        // The variables of the server do not apply to clients.
        command = command.mut_args(without_variable);
    }
    // An empty variable is one that is not set.
    command = each_argument(command, without_empty_variable);
    let matches = command.clone().try_get_matches_from(&arguments);
    let cli = matches.and_then(|matches| {
        let names = Names::of(&command, &matches);
        Ok(Cli { names, ..Cli::from_arg_matches(&matches)? })
    });
    cli.map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let example = match first.to_str() {
                Some("pool") => "pool show openai",
                Some("data") => "data check DIR",
                _ => "token new",
            };
            let what = format!("a subcommand is missing, such as `{example}`; --help lists them");
            return fail(&what, 2);
        }
        // Clap's message without what follows it, joined into one line.
        let text = names::message(&error, &command, &arguments);
        let is_end =
            |line: &str| ["Usage:", "For more information"].iter().any(|end| line.starts_with(end));
        let lines = text.lines().map(str::trim).take_while(|line| !is_end(line));
        let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        if error.kind() == ErrorKind::UnknownArgument && lines.len() == 1 {
            let is_run = first == "run" && !arguments.iter().any(|argument| argument == "--");
            lines.push(if is_run {
                "(put -- before the command, such as: run -- echo hi)"
            } else {
                "(--help lists all)"
            });
        }
        fail(lines.join(" ").trim_start_matches("error: "), 2)
    })
}

fn without_empty_variable(argument: Arg) -> Arg {
    let value = argument.get_env().and_then(std::env::var_os);
    if value.is_some_and(|value| value.is_empty()) {
        return without_variable(argument);
    }
    argument
}

impl Cli {
    /// Whether the command line starts a server. O(1).
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self.command, None | Some(Command::Serve(_)))
    }

    /// Runs the command and returns the exit status.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command.unwrap_or(Command::Serve(self.serve)) {
            Command::Serve(args) => serve(&args, &self.names),
            Command::Token(command) => match token::run(&command) {
                // `println!` would panic if standard output is closed.
                Ok(lines) => match writeln!(std::io::stdout(), "{lines}") {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&error.to_string(), 1),
                },
                Err(error) => fail(&error, 2),
            },
            Command::Data(command) => match inspect::run(&command) {
                Ok(text) => end(print(&text).map(|_| ())),
                Err(error) => fail(&error, 1),
            },
            Command::Client(command) => end(wait_for(commands::run(command))),
            Command::Import(args) => match wait_for(import::run(args)) {
                Ok(false) => ExitCode::FAILURE,
                result => end(result.map(|_| ())),
            },
            Command::Pools(command) => end(wait_for(pools::run(command))),
            Command::Run(args) => match wait_for(run::run(args)) {
                Ok(status) => ExitCode::from(status),
                Err((error, status)) => fail(&error, status),
            },
            Command::Start(args) => {
                let (error, status) = run::start(&args);
                fail(&error, status)
            }
        }
    }
}

fn serve(args: &serve::Args, names: &Names) -> ExitCode {
    if let Err(error) = args.check(names) {
        return fail(&error, 2);
    }
    match serve::run(args, names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), 1),
    }
}

/// Runs a client's work to its end. One thread is enough for a client.
fn wait_for<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system has an event queue").block_on(work)
}

/// The exit status of a client, after its message was reported if it has one.
fn end(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            report(&message);
            ExitCode::FAILURE
        }
    }
}

fn fail(message: &str, status: u8) -> ExitCode {
    report(&format!("error: {message}"));
    ExitCode::from(status)
}
