//! Commands about keys.

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Answer, ApiRequest, parse_count, parse_etag, parse_id};
use super::common::{OfKeys, Session};
use super::report::print;
use super::{counts, list};
use crate::config::parse_max_ms;
use crate::key::KeyId;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Creates keys and prints their ids
    Create {
        /// How many keys to create, from 1 to 100000
        #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
        count: Option<usize>,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Leases a random free key
    Lease {
        /// How many keys to lease, from 1 to 100000; fewer are leased if fewer are free
        #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
        count: Option<usize>,
        /// How long the lease lasts, such as 30s
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        lease: Option<u32>,
        /// How long to wait if no key is free, such as 10s
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        wait: Option<u32>,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Releases keys
    Release {
        /// The ids of the keys
        #[arg(required = true, value_name = "ID", value_parser = parse_id)]
        ids: Vec<KeyId>,
        /// Release the key only if its lease still has this `ETag`, such as 1; for one ID only
        #[arg(long, value_name = "TAG", value_parser = parse_etag)]
        etag: Option<String>,
        /// How long the key cools down before it can be leased again, such as 30s; for one ID only
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        cooldown: Option<u32>,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Keeps keys alive: the life of each starts again
    KeepAlive {
        /// The ids of the keys
        #[arg(required = true, value_name = "ID", value_parser = parse_id)]
        ids: Vec<KeyId>,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Renews a lease: it starts again
    Renew {
        /// The id of the key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        /// Renew the lease only if it still has this `ETag`, such as 1
        #[arg(long, value_name = "TAG", value_parser = parse_etag)]
        etag: Option<String>,
        /// How long the lease lasts from now on, such as 30s
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        lease: Option<u32>,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Shows the state of a key
    Get {
        /// The id of the key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Deletes a key, leased or not
    Delete {
        /// The id of the key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        /// Delete the key only if its lease still has this `ETag`, such as 1
        #[arg(long, value_name = "TAG", value_parser = parse_etag)]
        etag: Option<String>,
        #[command(flatten)]
        common: OfKeys,
    },
    /// Shows how many keys are free, leased and cooling down, and what has happened to them
    Stats {
        #[command(flatten)]
        common: OfKeys,
    },
    /// Lists the keys of a pool
    ///
    /// In no order that means anything. Each page is printed before the next one is asked for, so a list of any length
    /// takes little memory. A key that exists all the while is listed exactly once. Where tokens are required, this
    /// takes one with the role admin.
    ///
    /// `since` and `until` are the times of the lease of a blocked key, or of the cool-down of a cooling one.
    /// `expires` is `never` for a key that lives until it is deleted. `leases` is how often the key was leased.
    ///
    /// With --json each key is an object in a line of its own.
    List(list::Args),
}

/// What a 404 means to a command that leases keys.
pub(super) const NO_FREE_KEY: &str =
    "no key is free. Create more keys, or wait longer for one, such as with --wait 30s.";

/// What a 404 means to a command that names a key.
fn no_key(id: &KeyId) -> String {
    format!("no such key: {id}. It has expired, was deleted, or never existed.")
}

/// Sends a command's request and prints the outcome.
///
/// # Errors
///
/// The message to print if the request failed, or failed for some of the keys.
pub(super) async fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Create { count, common } => {
            let body = count.map(|count| json!({"count": count}));
            let request = ApiRequest::new(Method::POST, "keys").body(body);
            common.session()?.print(request, "", created).await
        }
        Command::Lease { count, lease, wait, common } => {
            let request = ApiRequest::new(Method::GET, "keys").ms("lease", lease).wait(wait);
            let request = request.parameter("count", count);
            common.session()?.print(request, NO_FREE_KEY, leased).await
        }
        Command::Release { ids, etag, cooldown, common } => {
            let session = common.session()?;
            match &ids[..] {
                [id] => {
                    let request = ApiRequest::new(Method::PUT, format!("keys/{id}"));
                    let request = request.ms("cooldown", cooldown).if_match(etag.as_deref());
                    session.print(request, &no_key(id), |_| "released".to_owned()).await
                }
                _ if etag.is_some() || cooldown.is_some() => Err(session.error(
                    "--etag and --cooldown work with one key: release each key by a command of its own.",
                )),
                _ => print_many(&session, "keys", &ids, "released").await,
            }
        }
        Command::KeepAlive { ids, common } => {
            let session = common.session()?;
            match &ids[..] {
                [id] => {
                    let request = ApiRequest::new(Method::PUT, format!("keepalive/{id}"));
                    let text = |answer: &Answer| match answer.header("key-expires-at") {
                        Some(_) => until("alive", answer, "key-expires-at"),
                        None => "alive until it is deleted".to_owned(),
                    };
                    session.print(request, &no_key(id), text).await
                }
                _ => print_many(&session, "keepalive", &ids, "kept alive").await,
            }
        }
        Command::Renew { id, etag, lease, common } => {
            let request =
                ApiRequest::new(Method::PUT, format!("keys/{id}/lease")).ms("lease", lease);
            let text = |answer: &Answer| until("leased", answer, "lease-expires-at");
            let request = request.if_match(etag.as_deref());
            common.session()?.print(request, &no_key(&id), text).await
        }
        Command::Get { id, common } => {
            let request = ApiRequest::new(Method::GET, format!("keys/{id}"));
            common.session()?.print(request, &no_key(&id), info).await
        }
        Command::Delete { id, etag, common } => {
            let request =
                ApiRequest::new(Method::DELETE, format!("keys/{id}")).if_match(etag.as_deref());
            common.session()?.print(request, &no_key(&id), |_| "deleted".to_owned()).await
        }
        Command::Stats { common } => {
            let text = |answer: &Answer| counts::in_words(&answer.body);
            common.session()?.print(ApiRequest::new(Method::GET, "stats"), "", text).await
        }
        Command::List(args) => list::run(args).await,
    }
}

/// Sends a request for several keys and prints how many of them exist.
async fn print_many(
    session: &Session,
    path: &str,
    ids: &[KeyId],
    verb: &str,
) -> Result<(), String> {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let request = ApiRequest::new(Method::PUT, path).body(Some(json!({"keyIds": ids})));
    let answer = session.send(request, "").await?;
    let missing = texts(&answer.body["missing"]);
    let done = ids.len() - missing.len().min(ids.len());
    let text = if session.is_json() { answer.body.to_string() } else { format!("{done} {verb}") };
    print(&text)?;
    if missing.is_empty() {
        return Ok(());
    }
    let what = "They have expired, were deleted, or never existed.";
    Err(session.error(&format!("no such keys: {}. {what}", missing.join(" "))))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The value of a header field. The server always sends it.
fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.header(name).unwrap_or("?")
}

fn until(what: &str, answer: &Answer, name: &str) -> String {
    format!("{what} until {}", field(answer, name))
}

/// A line for each id.
fn created(answer: &Answer) -> String {
    match answer.text("keyId") {
        Some(id) => id.to_owned(),
        None => texts(&answer.body["keyIds"]).join("\n"),
    }
}

/// A line for each lease, with the id first.
fn leased(answer: &Answer) -> String {
    let until = field(answer, "lease-expires-at");
    let line = |id: &str, etag: &str| format!("{id}  etag {etag}  until {until}");
    if let Some(id) = answer.text("keyId") {
        return line(id, field(answer, "etag"));
    }
    let keys = answer.body["keys"].as_array().into_iter().flatten();
    let lines = keys
        .map(|key| line(key["keyId"].as_str().unwrap_or("?"), key["etag"].as_str().unwrap_or("?")));
    lines.collect::<Vec<_>>().join("\n")
}

fn info(answer: &Answer) -> String {
    let state = match answer.text("blockedAt") {
        Some(since) => {
            format!("blocked since {since} until {}", field(answer, "lease-expires-at"))
        }
        None => "free".to_owned(),
    };
    let created = answer.text("createdAt").unwrap_or("?");
    // There is none for a key that lives until it is deleted.
    let expires = answer.header("key-expires-at").unwrap_or("never");
    let etag = field(answer, "etag");
    format!("{state}\ncreated {created}\nexpires {expires}\netag    {etag}")
}
