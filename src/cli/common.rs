//! What the commands of the client have in common: their options, and how they send requests and print answers.

use serde_json::{Value, json};

use super::client::{Answer, ApiRequest, Client, Server};
use super::failure::Failure;
use super::report::print;
use crate::pool::PoolName;

/// The options of every command that sends requests and ends.
#[derive(clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    server: Server,
    /// Print JSON: the response body with its `ETag` and deadlines, or the error on standard error
    #[arg(long)]
    json: bool,
}

/// The variable of [`OfPool`]. `run` gives it to its command.
pub(super) const POOL: &str = "TOKEN_ORCHESTRATOR_POOL";

/// The option of every command about keys: the pool that has them.
#[derive(clap::Args)]
pub(super) struct OfPool {
    /// The pool of the keys, such as openai; without it, the pool default
    #[arg(long, env = POOL, value_name = "NAME")]
    pub(super) pool: Option<PoolName>,
}

/// The options of every command about keys, but for `run`.
#[derive(clap::Args)]
pub(super) struct OfKeys {
    #[command(flatten)]
    of: OfPool,
    #[command(flatten)]
    common: Common,
}

/// Sends requests, and prints answers as the user wants them.
pub(super) struct Session {
    client: Client,
    is_json: bool,
}

impl OfKeys {
    /// A session about the pool of the keys.
    ///
    /// # Errors
    ///
    /// As those of [`Common::session`].
    pub(super) fn session(self) -> Result<Session, String> {
        self.common.session(self.of.pool)
    }

    /// The same for a command that must name its pool in its path, be it the pool default.
    ///
    /// # Errors
    ///
    /// As those of [`Common::session`].
    pub(super) fn session_by_name(self) -> Result<Session, String> {
        let default = || PoolName::DEFAULT.parse().expect("it is a name");
        self.common.session(Some(self.of.pool.unwrap_or_else(default)))
    }
}

impl Common {
    /// A session whose paths are those of a pool, or else those without the name of one.
    ///
    /// # Errors
    ///
    /// The message to print, if an option cannot be used.
    pub(super) fn session(self, pool: Option<PoolName>) -> Result<Session, String> {
        let Self { server, json: is_json } = self;
        let client = server.client().map_err(|what| error(&what, is_json))?;
        Ok(Session { client: client.of_pool(pool), is_json })
    }
}

impl Session {
    /// Whether the user wants JSON.
    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// Why it failed, for [`Session::explain`].
    pub(super) async fn try_send(&self, request: ApiRequest<'_>) -> Result<Answer, Failure> {
        self.client.send(request).await
    }

    /// Sends a request. `not_found` explains a 404 without details.
    ///
    /// # Errors
    ///
    /// The message to print.
    pub(super) async fn send(
        &self,
        request: ApiRequest<'_>,
        not_found: &str,
    ) -> Result<Answer, String> {
        let answer = self.try_send(request).await;
        answer.map_err(|failure| self.explain(&failure, not_found))
    }

    /// Sends a request and prints the answer: as JSON, or as `text` formats it.
    ///
    /// # Errors
    ///
    /// The message to print.
    pub(super) async fn print(
        &self,
        request: ApiRequest<'_>,
        not_found: &str,
        text: impl FnOnce(&Answer) -> String,
    ) -> Result<(), String> {
        let answer = self.send(request, not_found).await?;
        let text = if self.is_json { with_header(answer).to_string() } else { text(&answer) };
        print(&text).map(|_| ())
    }

    /// The message to print for a failure. `not_found` explains a 404 without details.
    pub(super) fn explain(&self, failure: &Failure, not_found: &str) -> String {
        if self.is_json {
            failure.json(not_found).to_string()
        } else {
            format!("error: {}", failure.message(not_found))
        }
    }

    /// The message to print for anything else that is wrong.
    pub(super) fn error(&self, what: &str) -> String {
        error(what, self.is_json)
    }
}

fn error(what: &str, is_json: bool) -> String {
    if is_json { json!({"detail": what}).to_string() } else { format!("error: {what}") }
}

/// The body of an answer, with the key's header fields added to it.
fn with_header(answer: Answer) -> Value {
    const FIELDS: [(&str, &str); 4] = [
        ("etag", "etag"),
        ("lease-expires-at", "leaseExpiresAt"),
        ("key-expires-at", "keyExpiresAt"),
        ("lease-holder", "leaseHolder"),
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
