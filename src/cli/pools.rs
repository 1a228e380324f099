//! Commands about pools.

use hyper::{Method, StatusCode};
use serde_json::{Map, Value};

use super::client::{Answer, ApiRequest};
use super::common::{Common, Session};
use super::counts;
use super::pages::List;
use super::report::print;
use super::settings::{self, Settings};
use super::table::Column;
use crate::pool::PoolName;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Lists the pools and how many keys they have
    ///
    /// In the order of their names. `waiting` counts the requests that wait for a key. With --json each pool is an
    /// object in a line of its own, with its settings and all its counts.
    Pools {
        #[command(flatten)]
        common: Common,
    },
    /// Creates, changes, shows and deletes pools
    #[command(subcommand)]
    Pool(PoolCommand),
}

#[derive(clap::Subcommand)]
pub(super) enum PoolCommand {
    /// Creates a pool, or changes its settings
    ///
    /// Prints whether the pool was created or changed, or is as it was. With --json it prints the settings, and as
    /// `isNew` whether it was created.
    ///
    /// What no option names stays as it is in a pool that exists, and is as the server has it by default in a new one.
    /// For that the settings are read first; if two such commands change the same pool at once, the later one may undo
    /// the other. Leases, cool-downs and lives that have begun stay as they are.
    Set {
        /// The name of the pool, such as openai
        name: PoolName,
        #[command(flatten)]
        settings: Settings,
        /// Reset what no option names to what the server has by default
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Shows the settings and the counts of a pool
    Show {
        /// The name of the pool, such as openai
        name: PoolName,
        #[command(flatten)]
        common: Common,
    },
    /// Deletes a pool
    ///
    /// Requests that wait for one of its keys end. The pool default cannot be deleted.
    Delete {
        /// The name of the pool, such as openai
        name: PoolName,
        /// Delete the pool although it has keys, leased or not, and delete them with it
        #[arg(long)]
        with_keys: bool,
        #[command(flatten)]
        common: Common,
    },
}

const COLUMNS: &[Column] = &[
    Column::text("pool", "/pool", "-"),
    Column::count("keys", "/stats/keys"),
    Column::count("free", "/stats/free"),
    Column::count("blocked", "/stats/blocked"),
    Column::count("cooling", "/stats/cooling"),
    Column::count("waiting", "/stats/waiting"),
];

/// Sends the requests of a command and prints the outcome.
///
/// # Errors
///
/// The message to print.
pub(super) async fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Pools { common } => {
            let (path, field, filters, max) = ("pools", "pools", Vec::new(), usize::MAX);
            let list = List { path, field, filters, max, columns: COLUMNS };
            list.print(&common.session(None)?).await
        }
        Command::Pool(PoolCommand::Set { name, settings, reset, common }) => {
            set(&common.session(Some(name))?, settings, reset).await
        }
        Command::Pool(PoolCommand::Show { name, common }) => {
            let request = ApiRequest::new(Method::GET, "");
            common.session(Some(name))?.print(request, "", shown).await
        }
        Command::Pool(PoolCommand::Delete { name, with_keys, common }) => {
            let request = ApiRequest::new(Method::DELETE, "");
            let request = request.parameter("keys", with_keys.then_some("delete"));
            common.session(Some(name))?.print(request, "", |_| "deleted".to_owned()).await
        }
    }
}

/// Creates the pool of a session, or changes what is named of its settings, or all of them.
async fn set(session: &Session, settings: Settings, is_reset: bool) -> Result<(), String> {
    let before = if is_reset { None } else { present(session).await? };
    // A PUT replaces all settings.
    let mut body = before.clone().unwrap_or_default();
    body.extend(settings.named());
    let request = ApiRequest::new(Method::PUT, "").body(Some(Value::Object(body)));
    let mut answer = session.send(request, "").await?;
    let is_new = answer.status == StatusCode::CREATED;
    let is_same = before.is_some() && answer.body["settings"].as_object() == before.as_ref();
    let text = if session.is_json() {
        answer.body["isNew"] = is_new.into();
        answer.body.to_string()
    } else {
        let what = if is_same { "unchanged" } else { "changed" };
        (if is_new { "created" } else { what }).to_owned()
    };
    print(&text).map(|_| ())
}

/// The settings of the pool of a session, if it exists.
async fn present(session: &Session) -> Result<Option<Map<String, Value>>, String> {
    match session.try_send(ApiRequest::new(Method::GET, "")).await {
        Ok(answer) => Ok(answer.body["settings"].as_object().cloned()),
        Err(failure) if failure.kind() == Some("no-such-pool") => Ok(None),
        Err(failure) => Err(session.explain(&failure, "")),
    }
}

/// The settings and the counts.
fn shown(answer: &Answer) -> String {
    let Answer { body, .. } = answer;
    format!("{}\n{}", settings::in_words(&body["settings"]), counts::in_words(&body["stats"]))
}
