//! Commands that send one request.

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Answer, ApiRequest, Failure, Server, parse_count, parse_etag, parse_id};
use super::counts;
use super::report::print;
use crate::config::parse_max_ms;
use crate::key::KeyId;

#[derive(clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    server: Server,
    /// Print JSON: the response body with its `ETag` and deadlines, or the error on standard error
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Creates keys and prints their ids
    Create {
        /// How many keys to create, from 1 to 100000
        #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
        count: Option<usize>,
        #[command(flatten)]
        common: Common,
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
        common: Common,
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
        common: Common,
    },
    /// Keeps keys alive: the life of each starts again
    KeepAlive {
        /// The ids of the keys
        #[arg(required = true, value_name = "ID", value_parser = parse_id)]
        ids: Vec<KeyId>,
        #[command(flatten)]
        common: Common,
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
        common: Common,
    },
    /// Shows the state of a key
    Get {
        /// The id of the key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        #[command(flatten)]
        common: Common,
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
        common: Common,
    },
    /// Shows how many keys are free, leased and cooling down, and what has happened to them
    Stats {
        #[command(flatten)]
        common: Common,
    },
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
            common.print(ApiRequest::new(Method::POST, "keys").body(body), "", created).await
        }
        Command::Lease { count, lease, wait, common } => {
            let request = ApiRequest::new(Method::GET, "keys").ms("lease", lease).wait(wait);
            common.print(request.parameter("count", count), NO_FREE_KEY, leased).await
        }
        Command::Release { ids, etag, cooldown, common } => match &ids[..] {
            [id] => {
                let request =
                    ApiRequest::new(Method::PUT, format!("keys/{id}")).ms("cooldown", cooldown);
                let request = request.if_match(etag.as_deref());
                common.print(request, &no_key(id), |_| "released".to_owned()).await
            }
            _ if etag.is_some() || cooldown.is_some() => {
                let what = "--etag and --cooldown work with one key: release each key by a command of its own.";
                Err(error(what, common.json))
            }
            _ => common.print_many("keys", &ids, "released").await,
        },
        Command::KeepAlive { ids, common } => match &ids[..] {
            [id] => {
                let request = ApiRequest::new(Method::PUT, format!("keepalive/{id}"));
                common
                    .print(request, &no_key(id), |answer| until("alive", answer, "key-expires-at"))
                    .await
            }
            _ => common.print_many("keepalive", &ids, "kept alive").await,
        },
        Command::Renew { id, etag, lease, common } => {
            let request =
                ApiRequest::new(Method::PUT, format!("keys/{id}/lease")).ms("lease", lease);
            let text = |answer: &Answer| until("leased", answer, "lease-expires-at");
            common.print(request.if_match(etag.as_deref()), &no_key(&id), text).await
        }
        Command::Get { id, common } => {
            let request = ApiRequest::new(Method::GET, format!("keys/{id}"));
            common.print(request, &no_key(&id), info).await
        }
        Command::Delete { id, etag, common } => {
            let request =
                ApiRequest::new(Method::DELETE, format!("keys/{id}")).if_match(etag.as_deref());
            common.print(request, &no_key(&id), |_| "deleted".to_owned()).await
        }
        Command::Stats { common } => {
            let text = |answer: &Answer| counts::in_words(&answer.body);
            common.print(ApiRequest::new(Method::GET, "stats"), "", text).await
        }
    }
}

impl Common {
    /// Sends a request. An error is the message to print.
    async fn send(self, request: ApiRequest<'_>, not_found: &str) -> Result<Answer, String> {
        let Self { server, json: is_json } = self;
        let client = server.client().map_err(|what| error(&what, is_json))?;
        let answer = client.send(request).await;
        answer.map_err(|failure| explain(&failure, not_found, is_json))
    }

    /// Sends a request and prints the answer: as JSON, or as `text` formats it.
    async fn print(
        self,
        request: ApiRequest<'_>,
        not_found: &str,
        text: impl FnOnce(&Answer) -> String,
    ) -> Result<(), String> {
        let is_json = self.json;
        let answer = self.send(request, not_found).await?;
        print(&if is_json { with_header(answer).to_string() } else { text(&answer) })
    }

    /// Sends a request for several keys and prints how many of them exist.
    async fn print_many(self, path: &str, ids: &[KeyId], verb: &str) -> Result<(), String> {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let request = ApiRequest::new(Method::PUT, path).body(Some(json!({"keyIds": ids})));
        let is_json = self.json;
        let answer = self.send(request, "").await?;
        let missing = texts(&answer.body["missing"]);
        let done = ids.len() - missing.len().min(ids.len());
        print(&if is_json { answer.body.to_string() } else { format!("{done} {verb}") })?;
        if missing.is_empty() {
            return Ok(());
        }
        let what = "They have expired, were deleted, or never existed.";
        Err(error(&format!("no such keys: {}. {what}", missing.join(" ")), is_json))
    }
}

fn error(what: &str, is_json: bool) -> String {
    if is_json { json!({"detail": what}).to_string() } else { format!("error: {what}") }
}

fn explain(failure: &Failure, not_found: &str, is_json: bool) -> String {
    if is_json {
        failure.json(not_found).to_string()
    } else {
        format!("error: {}", failure.message(not_found))
    }
}

/// The body of an answer, with the key's header fields added to it.
fn with_header(answer: Answer) -> Value {
    const FIELDS: [(&str, &str); 3] = [
        ("etag", "etag"),
        ("lease-expires-at", "leaseExpiresAt"),
        ("key-expires-at", "keyExpiresAt"),
    ];
    let fields = FIELDS.map(|(name, field)| (field, answer.header(name).map(str::to_owned)));
    let mut body = answer.body;
    for (field, value) in fields {
        if let Some(value) = value {
            body[field] = value.into();
        }
    }
    body
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
    let (expires, etag) = (field(answer, "key-expires-at"), field(answer, "etag"));
    format!("{state}\ncreated {created}\nexpires {expires}\netag    {etag}")
}
