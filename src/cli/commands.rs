//! Commands about keys.

use hyper::Method;
use serde_json::{Value, json};

use super::choice::{Choice, parse_holder};
use super::client::{Answer, ApiRequest, parse_count, parse_etag, parse_id};
use super::common::{OfKeys, Session};
use super::counts::{self, number};
use super::list;
use super::report::print;
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
    ///
    /// Prints its id, the `ETag` and the end of its lease, and its value if it has one. In a value, control characters
    /// are written as in JSON; with --json it can be read by programs.
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
        choice: Choice,
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
    /// Takes back all keys that one holder has leased
    ///
    /// For a worker that has died: its leases end, and its keys are free at once. What it may still send with the
    /// `ETag` of such a lease is refused. Where tokens are required, this takes one with the role admin.
    TakeBack {
        /// Whose leases end, such as worker-7
        #[arg(long, value_name = "HOLDER", value_parser = parse_holder)]
        holder: String,
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
    /// `holder` is who has leased it, if that was said. Values are not shown.
    ///
    /// With --json each key is an object in a line of its own.
    List(list::Args),
}

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
        Command::Lease { count, lease, wait, choice, common } => {
            let request = ApiRequest::new(Method::GET, "keys").ms("lease", lease).wait(wait);
            let request = choice.of(request).parameter("count", count);
            common.session()?.print(request, &choice.no_free_key(), leased).await
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
        Command::TakeBack { holder, common } => {
            let request = ApiRequest::new(Method::DELETE, "leases");
            let request = request.parameter("holder", Some(holder));
            let text = |answer: &Answer| format!("{} released", number(&answer.body["released"]));
            common.session()?.print(request, "", text).await
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

/// A line for each lease, with the id first, and with the value last if the key has one: it may have spaces.
fn leased(answer: &Answer) -> String {
    let until = field(answer, "lease-expires-at");
    let line = |key: &Value, etag: &str| {
        let id = key["keyId"].as_str().unwrap_or("?");
        let value = key["value"].as_str().map(|value| {
            // As all other control characters are printed: the value stays in its line.
            format!("  value {}", value.replace('\n', "\\u000a"))
        });
        format!("{id}  etag {etag}  until {until}{}", value.unwrap_or_default())
    };
    match answer.body["keys"].as_array() {
        Some(keys) => {
            let lines = keys.iter().map(|key| line(key, key["etag"].as_str().unwrap_or("?")));
            lines.collect::<Vec<_>>().join("\n")
        }
        None => line(&answer.body, field(answer, "etag")),
    }
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
    let holder = answer.header("lease-holder").map(|holder| format!("\nholder  {holder}"));
    let holder = holder.unwrap_or_default();
    format!("{state}\ncreated {created}\nexpires {expires}\netag    {etag}{holder}")
}
