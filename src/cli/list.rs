//! `list`: the keys of a pool.

use super::choice::parse_label;
use super::common::OfKeys;
use super::pages::List;
use super::table::Column;
use crate::key::Label;

/// What to list.
#[derive(clap::Args)]
pub(super) struct Args {
    /// List only keys in this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// List only keys with this label, such as plan:pro
    #[arg(long, value_name = "NAME:VALUE", value_parser = parse_label)]
    label: Option<Label>,
    /// How many keys to list at most, such as 100. By default all
    #[arg(long, value_name = "NUMBER", value_parser = parse_limit)]
    limit: Option<usize>,
    #[command(flatten)]
    common: OfKeys,
}

/// The state of a key, as the server calls it.
#[derive(Clone, Copy, clap::ValueEnum)]
enum State {
    /// It can be leased
    Free,
    /// It is leased
    Blocked,
    /// It cools down
    Cooling,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Blocked => "blocked",
            Self::Cooling => "cooling",
        }
    }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| "must be a number of keys from 1 on, such as 100".to_owned())
}

const COLUMNS: &[Column] = &[
    Column::text("id", "/keyId", "-"),
    Column::text("state", "/state", "-"),
    Column::text("since", "/blockedAt", "-"),
    Column::text("until", "/leaseExpiresAt", "-"),
    Column::text("created", "/createdAt", "-"),
    Column::text("expires", "/keyExpiresAt", "never"),
    Column::count("leases", "/leases"),
    Column::text("holder", "/holder", "-"),
    Column::labels("labels", "/labels"),
];

/// Prints the keys.
///
/// # Errors
///
/// The message to print.
pub(super) async fn run(args: Args) -> Result<(), String> {
    let state = args.state.map(|state| ("state", state.name().to_owned()));
    let label = args.label.map(|label| ("label", label.to_string()));
    let list = List {
        path: "inventory",
        field: "keys",
        filters: state.into_iter().chain(label).collect(),
        max: args.limit.unwrap_or(usize::MAX),
        columns: COLUMNS,
    };
    list.print(&args.common.session_by_name()?).await
}
