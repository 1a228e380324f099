//! The command line.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Leases random free keys from a pool, takes them back, and lets the unused die.
#[derive(Parser)]
#[command(name = "token-orchestrator", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Exit status: 0 after SIGTERM or Ctrl-C, 2 for a wrong value, 1 for all else. \
                        RUST_LOG=debug logs more."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server; the default.
    Serve(serve::Args),
}

/// Parses the command line and the environment, and does what they say.
///
/// Exit status: 0 after a shutdown that was asked for, 2 for a wrong command line, 1 for all else.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let text = error.render().to_string();
            eprintln!("{}", text.lines().next().unwrap_or_default());
            return ExitCode::from(2);
        }
    };
    let Command::Serve(args) = cli.command.unwrap_or(Command::Serve(cli.serve));
    if let Err(error) = args.check() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    match serve::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
