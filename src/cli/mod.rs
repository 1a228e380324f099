//! The command line: the server, and a client of it.

mod address;
mod client;
mod commands;
mod run;
mod serve;
mod tell;
mod token;
mod trust;

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::tell::tell;

/// Leases random free keys from a pool, takes them back, and lets the unused die.
#[derive(Parser)]
#[command(name = "token-orchestrator", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Exit status of the server: 0 after SIGTERM or Ctrl-C, 2 for a wrong value, 1 for all \
                        else. RUST_LOG=debug logs more. That of the other commands: 0 if it was done, 1 if \
                        not, 2 if the command line is wrong; that of run is told by run --help."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server; the default
    Serve(serve::Args),
    /// Makes tokens for those who may ask a server
    #[command(subcommand)]
    Token(token::Command),
    #[command(flatten)]
    Client(commands::Command),
    /// Runs a command that has a key for as long as it runs
    ///
    /// Leases a key, passes it to CMD in `TOKEN_ORCHESTRATOR_KEY`, renews the lease and keeps the key
    /// alive while CMD runs, and gives it back when CMD has ended.
    ///
    /// SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to CMD, but for those that a
    /// terminal's keys make, which CMD gets anyway, and those that were ignored from the start.
    ///
    /// The lease is lost nevertheless if the server does not answer for as long as it lasts, or
    /// somebody else released or deleted the key, which is seen within a third of the lease and 20
    /// seconds. Then another may have the key, so CMD gets SIGTERM, and SIGKILL if that does not end it.
    /// Processes that CMD has started get no signal from here. If this program is killed by SIGKILL,
    /// CMD goes on, and its lease ends by itself.
    ///
    /// Exit status: that of CMD, or 128 and the number of the signal that killed it (or this program,
    /// while it waited for a key); 125 if no key was to be had, 126 if CMD cannot be started, 127 if
    /// there is no such command, 2 if the command line is wrong.
    Run(run::Args),
}

/// Reads the command line and the environment.
///
/// # Errors
///
/// The exit status, once it has told what is wrong, or the help that was asked for.
pub fn parse() -> Result<Cli, ExitCode> {
    let mut command = Cli::command();
    let first = std::env::args().nth(1).unwrap_or_default();
    if first != "serve" && command.find_subcommand(&first).is_some() {
        // What the environment says to servers is nothing to clients.
        command = command.mut_args(|arg| arg.env(None::<&'static str>));
    }
    let cli = command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    cli.map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return fail("a subcommand is missing; --help tells which there are", 2);
        }
        // In one line.
        let text = error.render().to_string();
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        fail(lines.join(" ").trim_start_matches("error: "), 2)
    })
}

impl Cli {
    /// Whether this is to be a server.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self.command, None | Some(Command::Serve(_)))
    }

    /// Does what the command line says, and answers with the exit status.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command.unwrap_or(Command::Serve(self.serve)) {
            Command::Serve(args) => serve(&args),
            Command::Token(command) => {
                // That nobody listens is no reason to panic.
                match writeln!(std::io::stdout(), "{}", token::run(&command)) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&error.to_string(), 1),
                }
            }
            Command::Client(command) => match wait_for(commands::run(command)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tell(&error);
                    ExitCode::FAILURE
                }
            },
            Command::Run(args) => match wait_for(run::run(args)) {
                Ok(status) => ExitCode::from(status),
                Err((error, status)) => fail(&error, status),
            },
        }
    }
}

fn serve(args: &serve::Args) -> ExitCode {
    if let Err(error) = args.check() {
        return fail(&error, 2);
    }
    match serve::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), 1),
    }
}

/// A client has little to do: one thread is enough.
fn wait_for<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread can wait").block_on(work)
}

fn fail(message: &str, status: u8) -> ExitCode {
    tell(&format!("error: {message}"));
    ExitCode::from(status)
}
