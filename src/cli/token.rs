//! `token`: makes tokens and the lines that describe them in a file of tokens.

use crate::http::{Role, TokenHash, check_name, new_token};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Prints a new token and its line for the file of tokens
    ///
    /// The first line is the token. It is shown once and stored nowhere. The second line is for the file that
    /// `--auth-tokens` names; the server reads that file again on SIGHUP.
    New(New),
}

#[derive(clap::Args)]
pub(super) struct New {
    /// What the token allows: client (lease, release, renew, keep alive, show), admin (everything) or
    /// metrics
    #[arg(long)]
    role: Role,
    /// The name of the token in the file, such as worker-1
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
}

fn parse_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// The two lines to print: the token, and its line for the file.
pub(super) fn run(command: &Command) -> String {
    let Command::New(New { role, name }) = command;
    let token = new_token(&mut rand::rng());
    let (hash, role) = (TokenHash::of(token.as_bytes()).to_string(), role.name());
    let name = name.clone().unwrap_or_else(|| format!("{role}-{}", &hash[..8]));
    format!("{token}\n{name} {role} {hash}")
}
