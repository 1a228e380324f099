//! Commands that send one request.

use std::io::{ErrorKind, Write, stdout};

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Answer, Ask, Failure, Server, parse_count, parse_etag, parse_id};
use crate::config::parse_max_ms;
use crate::key::KeyId;

#[derive(clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    server: Server,
    /// Print JSON: the answer's body with its `ETag` and deadlines, or on standard error what is wrong
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Creates keys and prints their ids
    Create {
        /// How many
        #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
        count: Option<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Leases a random free key
    Lease {
        /// How many, or as many as are free
        #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
        count: Option<usize>,
        /// For how long, such as 30s
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        lease: Option<u32>,
        /// How long to wait for a key if none is free
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        wait: Option<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// Gives keys back
    Release {
        /// The keys
        #[arg(required = true, value_name = "ID", value_parser = parse_id)]
        ids: Vec<KeyId>,
        /// Only if the key's lease is still this one; with one ID only
        #[arg(long, value_name = "TAG", value_parser = parse_etag)]
        etag: Option<String>,
        /// How long the key rests before it is served again; with one ID only
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        cooldown: Option<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// Starts the lives of keys anew
    KeepAlive {
        /// The keys
        #[arg(required = true, value_name = "ID", value_parser = parse_id)]
        ids: Vec<KeyId>,
        #[command(flatten)]
        common: Common,
    },
    /// Starts a lease anew
    Renew {
        /// The key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        /// Only if the key's lease is still this one
        #[arg(long, value_name = "TAG", value_parser = parse_etag)]
        etag: Option<String>,
        /// For how long, such as 30s
        #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
        lease: Option<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// Shows a key
    Get {
        /// The key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        #[command(flatten)]
        common: Common,
    },
    /// Removes a key
    Delete {
        /// The key
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        /// Only if the key's lease is still this one
        #[arg(long, value_name = "TAG", value_parser = parse_etag)]
        etag: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Shows counts
    Stats {
        #[command(flatten)]
        common: Common,
    },
}

/// What a 404 means to a command that names a key.
const NO_KEY: &str = "no such key.";

/// Sends a command's request and prints what came of it.
///
/// # Errors
///
/// What to tell if it was not done, or not for all keys.
pub(super) async fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Create { count, common } => {
            let body = count.map(|count| json!({"count": count}));
            common.print(Ask::new(Method::POST, "keys").body(body), "", created).await
        }
        Command::Lease { count, lease, wait, common } => {
            let ask = Ask::new(Method::GET, "keys").ms("lease", lease).wait(wait);
            common.print(ask.parameter("count", count), "no key is free.", leased).await
        }
        Command::Release { ids, etag, cooldown, common } => match &ids[..] {
            [id] => {
                let ask = Ask::new(Method::PUT, format!("keys/{id}")).ms("cooldown", cooldown);
                common.print(ask.if_match(etag.as_deref()), NO_KEY, |_| "released".to_owned()).await
            }
            _ if etag.is_some() || cooldown.is_some() => {
                Err(error("--etag and --cooldown are for one key.", common.json))
            }
            _ => common.print_many("keys", &ids, "released").await,
        },
        Command::KeepAlive { ids, common } => match &ids[..] {
            [id] => {
                let ask = Ask::new(Method::PUT, format!("keepalive/{id}"));
                common.print(ask, NO_KEY, |answer| until("alive", answer, "key-expires-at")).await
            }
            _ => common.print_many("keepalive", &ids, "kept alive").await,
        },
        Command::Renew { id, etag, lease, common } => {
            let ask = Ask::new(Method::PUT, format!("keys/{id}/lease")).ms("lease", lease);
            let text = |answer: &Answer| until("leased", answer, "lease-expires-at");
            common.print(ask.if_match(etag.as_deref()), NO_KEY, text).await
        }
        Command::Get { id, common } => {
            common.print(Ask::new(Method::GET, format!("keys/{id}")), NO_KEY, info).await
        }
        Command::Delete { id, etag, common } => {
            let ask = Ask::new(Method::DELETE, format!("keys/{id}")).if_match(etag.as_deref());
            common.print(ask, NO_KEY, |_| "deleted".to_owned()).await
        }
        Command::Stats { common } => {
            common.print(Ask::new(Method::GET, "stats"), "", |answer| table(&answer.body)).await
        }
    }
}

impl Common {
    /// Sends a request; what is wrong is told as it is to be printed.
    async fn send(self, ask: Ask<'_>, not_found: &str) -> Result<Answer, String> {
        let Self { server, json: is_json } = self;
        let client = server.client().map_err(|what| error(&what, is_json))?;
        let answer = client.send(ask).await;
        answer.map_err(|failure| explain(&failure, not_found, is_json))
    }

    /// Sends a request, and prints the answer as JSON or as `text` has it.
    async fn print(
        self,
        ask: Ask<'_>,
        not_found: &str,
        text: impl FnOnce(&Answer) -> String,
    ) -> Result<(), String> {
        let is_json = self.json;
        let answer = self.send(ask, not_found).await?;
        write(&if is_json { with_header(answer).to_string() } else { text(&answer) })
    }

    /// Sends a request for several keys, and prints how many of them were there.
    async fn print_many(self, path: &str, ids: &[KeyId], verb: &str) -> Result<(), String> {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let ask = Ask::new(Method::PUT, path).body(Some(json!({"keyIds": ids})));
        let is_json = self.json;
        let answer = self.send(ask, "").await?;
        let missing = texts(&answer.body["missing"]);
        let done = ids.len() - missing.len().min(ids.len());
        write(&if is_json { answer.body.to_string() } else { format!("{done} {verb}") })?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(error(&format!("no such keys: {}.", missing.join(" ")), is_json))
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

/// Prints a line. Whoever reads may have read enough.
fn write(text: &str) -> Result<(), String> {
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("error: {error}")),
        _ => Ok(()),
    }
}

/// The body of an answer with what its header says of the key.
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

/// The value of a header field, which the server always sends.
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
    let (dies, etag) = (field(answer, "key-expires-at"), field(answer, "etag"));
    format!("{state}\ncreated {created}\ndies    {dies}\netag    {etag}")
}

/// Names and numbers, one pair a line; those of objects within follow.
fn table(object: &Value) -> String {
    let mut lines = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if value.is_object() {
            lines.push(format!("{name}:\n{}", table(value)));
        } else {
            lines.push(format!("{name:<15} {value:>12}"));
        }
    }
    lines.join("\n")
}
