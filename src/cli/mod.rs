//! The command line: the server, and a client of it.

mod client;
mod commands;
mod run;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Leases random free keys from a pool, takes them back, and lets the unused die.
#[derive(Parser)]
#[command(name = "token-orchestrator", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Exit status of the server: 0 after SIGTERM or Ctrl-C, 2 for a wrong value, 1 for all \
                        else. RUST_LOG=debug logs more. That of the other commands: 0 if it was done, 1 if \
                        not, 2 for a wrong value; that of run is told by run --help."
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
    #[command(flatten)]
    Client(commands::Command),
    /// Runs a command that has a key for as long as it runs
    ///
    /// Leases a key, passes it to CMD in `TOKEN_ORCHESTRATOR_KEY`, renews the lease and keeps the key
    /// alive while CMD runs, and gives it back when CMD has ended.
    ///
    /// SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to CMD, but for those that a
    /// terminal's keys make: they reach CMD anyway. If the lease is lost nevertheless, because the
    /// server does not answer or somebody else released the key, CMD gets SIGTERM, and ten seconds
    /// later SIGKILL: another may have the key then.
    ///
    /// Exit status: that of CMD, or 128 and the number of the signal that killed it; 125 if no key was
    /// to be had, 126 if CMD cannot be started, 127 if there is no such command.
    Run(run::Args),
}

/// Reads the command line and the environment.
///
/// # Errors
///
/// The exit status, once it has told what is wrong, or the help that was asked for.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let text = error.render().to_string();
        let line = text.lines().next().unwrap_or_default();
        fail(line.trim_start_matches("error: "), 2)
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
            Command::Client(command) => match wait_for(commands::run(command)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
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
    eprintln!("error: {message}");
    ExitCode::from(status)
}
