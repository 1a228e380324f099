//! `token`: makes tokens and the lines that describe them in a file of tokens.

use crate::http::{Pools, Role, TokenHash, check_name, check_quota, new_token, parse_max_held};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Prints a new token and its line for the file of tokens
    ///
    /// The first line is the token. It is shown once and stored nowhere. The second line is for the file that
    /// `--auth-tokens` names; the server reads that file again on SIGHUP. The line has the name, the role and the
    /// SHA-256 of the token, and its pools and its limit if they are given, as in: worker-7 client 5e88…
    /// openai,anthropic-* max-held=10
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
    /// The pools that the token is for, such as openai,anthropic-*, where the * stands for any rest of a name.
    /// Without this option the token is for all pools
    #[arg(long)]
    pools: Option<Pools>,
    /// How many keys clients with this token may have leased at once, in all pools together, such as 10. Only
    /// for the role client. Without this option there is no limit
    #[arg(long, value_name = "KEYS", value_parser = parse_max_held)]
    max_held: Option<usize>,
}

fn parse_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// The two lines to print: the token, and its line for the file.
///
/// # Errors
///
/// If a limit is given that the role cannot have.
pub(super) fn run(command: &Command) -> Result<String, String> {
    let Command::New(New { role, name, pools, max_held }) = command;
    if max_held.is_some() {
        check_quota(*role).map_err(|what| format!("--{what}"))?;
    }
    let token = new_token(&mut rand::rng());
    let (hash, role) = (TokenHash::of(token.as_bytes()).to_string(), role.name());
    let name = name.clone().unwrap_or_else(|| format!("{role}-{}", &hash[..8]));
    let pools = pools.as_ref().map(|pools| format!(" {pools}")).unwrap_or_default();
    let max_held = max_held.map(|max| format!(" max-held={max}")).unwrap_or_default();
    Ok(format!("{token}\n{name} {role} {hash}{pools}{max_held}"))
}
