//! `token`: what goes into the file of tokens.

use crate::http::{Role, TokenHash, check_name, new_token};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Prints a new token, and its line for the file of tokens
    ///
    /// The token is shown once, on the first line of standard output: it is kept nowhere. The second line
    /// is for the file that `--auth-tokens` names; the server reads it again on SIGHUP.
    New(New),
}

#[derive(clap::Args)]
pub(super) struct New {
    /// What it allows: client (lease, release, renew, keep alive, look), admin (everything) or metrics
    #[arg(long)]
    role: Role,
    /// Whose it is, for whoever reads the file
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
}

fn parse_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// The lines to print.
pub(super) fn run(command: &Command) -> String {
    let Command::New(New { role, name }) = command;
    let token = new_token(&mut rand::rng());
    let (hash, role) = (TokenHash::of(token.as_bytes()).to_string(), role.name());
    let name = name.clone().unwrap_or_else(|| format!("{role}-{}", &hash[..8]));
    format!("{token}\n{name} {role} {hash}")
}
