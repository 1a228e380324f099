//! Requests to a server.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, IF_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde_json::{Map, Value};

use super::trust::{authorization, tls};
use crate::http::COUNT_MAX;
use crate::key::KeyId;

/// How long an answer may take, but for the time that a request asks to wait.
const PATIENCE: Duration = Duration::from_secs(30);

const NOT_TRUSTED: &str =
    "; nobody who is trusted here vouches for it: --ca-cert FILE tells whom to trust";
/// What it may mean that there was no answer, by a part of what the libraries say.
const HINTS: [(&str, &str); 6] = [
    ("UnknownIssuer", NOT_TRUSTED),
    ("BadSignature", NOT_TRUSTED),
    ("UnsupportedSignatureAlgorithm", NOT_TRUSTED),
    ("CaUsedAsEndEntity", "; it is that of an authority, and no server's"),
    ("InvalidContentType", "; it does not speak TLS: http://?"),
    ("invalid HTTP version parsed", "; it does not speak plain HTTP: https://?"),
];

/// Which server is asked.
#[derive(clap::Args)]
pub(super) struct Server {
    /// The server to ask. Proxies are not used: a key id is a secret
    #[arg(
        long = "server",
        env = "TOKEN_ORCHESTRATOR_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        value_parser = parse_server
    )]
    url: Url,
    /// Trust servers for which the certificates of this PEM file vouch, and no others. Without it, those
    /// that the system trusts
    #[arg(long, env = "TOKEN_ORCHESTRATOR_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The file with the token to show the server; without it, `TOKEN_ORCHESTRATOR_TOKEN` holds the token,
    /// if there is one. It is sent by https:// only, or to this machine
    #[arg(long, env = "TOKEN_ORCHESTRATOR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
}

/// A request.
pub(super) struct Ask<'a> {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    if_match: Option<&'a str>,
    body: Option<Value>,
    patience: Duration,
}

/// An answer that says that something was done.
pub(super) struct Answer {
    pub(super) body: Value,
    headers: HeaderMap,
}

/// Why nothing was done.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no answer, so it may have been done after all.
    NoAnswer(String),
    Refused {
        status: u16,
        body: Value,
        /// In seconds.
        retry_after: Option<String>,
    },
    /// The answers say that the lease is over.
    Lost(String),
}

impl Server {
    /// # Errors
    ///
    /// If a file cannot be used, or the token must not be sent to this server.
    pub(super) fn client(self) -> Result<Client, String> {
        let Self { url: server, ca_cert, token_file } = self;
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization(&server, token_file.as_deref())? {
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            // Elsewhere nobody shall see a key or the token.
            .redirect(Policy::none())
            .tls_backend_preconfigured(tls(&server, ca_cert.as_deref())?)
            .default_headers(headers)
            .build();
        Ok(Client { http: http.map_err(|error| error.to_string())?, server })
    }
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        let (path, query) = (path.into(), Vec::new());
        Self { method, path, query, if_match: None, body: None, patience: PATIENCE }
    }

    /// A parameter in milliseconds.
    pub(super) fn ms(self, name: &'static str, ms: Option<u32>) -> Self {
        self.parameter(name, ms.map(|ms| format!("{ms}ms")))
    }

    pub(super) fn parameter(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Asks for a key, and to wait for one.
    pub(super) fn wait(mut self, ms: Option<u32>) -> Self {
        self.patience += Duration::from_millis(ms.unwrap_or(0).into());
        self.ms("wait", ms)
    }

    /// How long the answer may take.
    pub(super) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn if_match(mut self, etag: Option<&'a str>) -> Self {
        self.if_match = etag;
        self
    }

    pub(super) fn body(mut self, body: Option<Value>) -> Self {
        self.body = body;
        self
    }
}

impl Client {
    /// Sends a request and reads the answer.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let mut url = self.server.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(ask.path.split('/'));
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(ask.query);
        }
        let mut request = self.http.request(ask.method, url).timeout(ask.patience);
        if let Some(etag) = ask.if_match {
            request = request.header(IF_MATCH, etag);
        }
        if let Some(body) = ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.no_answer(error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|error| self.no_answer(error))?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() && body.is_object() {
            return Ok(Answer { body, headers });
        }
        let retry_after = header(&headers, "retry-after").map(str::to_owned);
        Err(Failure::Refused { status: status.as_u16(), body, retry_after })
    }

    fn no_answer(&self, error: reqwest::Error) -> Failure {
        // The address may hold a key, and the innermost cause says most.
        let error = error.without_url();
        let mut cause: &dyn Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let (server, cause) = (&self.server, cause.to_string());
        let hint = HINTS.iter().find(|(part, _)| cause.contains(part)).map_or("", |(_, hint)| hint);
        Failure::NoAnswer(format!("no answer from {server}: {cause}{hint}"))
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// A field of the body, if it is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.body[name].as_str()
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Failure {
    /// Whether the server has said that there is no such key or no such lease, and not something
    /// between here and there.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::NoAnswer(_) => false,
            Self::Lost(_) => true,
            Self::Refused { status: 404, body, .. } => body.as_object().is_some_and(Map::is_empty),
            Self::Refused { body, .. } => ["/problems/stale-lease", "/problems/not-leased"]
                .map(Value::from)
                .contains(&body["type"]),
        }
    }

    /// In one line.
    pub(super) fn message(&self, about: &str) -> String {
        match self {
            Self::NoAnswer(why) => format!("{why}."),
            Self::Lost(why) => why.clone(),
            Self::Refused { body, status, retry_after } => {
                let text = |name: &str| body[name].as_str();
                let what = match (status, text("title"), text("detail")) {
                    (_, Some(title), Some(detail)) => format!("{title}. {detail}"),
                    (404, ..) => about.to_owned(),
                    (401, ..) => "the server wants a token that it knows.".to_owned(),
                    (403, ..) => "the token does not allow that.".to_owned(),
                    (300..=399, ..) => {
                        format!("the server answered {status}; redirects are not followed.")
                    }
                    _ => format!("the server answered {status}."),
                };
                let when = retry_after.as_ref().map(|s| format!(" Try again in {s} s."));
                format!("{what}{}", when.unwrap_or_default())
            }
        }
    }

    /// As JSON.
    pub(super) fn json(&self, about: &str) -> Value {
        match self {
            Self::Refused { body, .. } if body["type"].is_string() => body.clone(),
            Self::Refused { status, .. } => {
                serde_json::json!({"status": status, "detail": self.message(about)})
            }
            Self::NoAnswer(_) | Self::Lost(_) => {
                serde_json::json!({"detail": self.message(about)})
            }
        }
    }
}

/// Reads the address of a server, such as `localhost:8080`.
fn parse_server(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err("must be http://HOST:PORT or https://HOST:PORT".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or a password".to_owned());
    }
    Ok(url)
}

/// Reads how many keys are meant.
pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count));
    count.ok_or_else(|| format!("must be from 1 to {COUNT_MAX}"))
}

/// Reads a key id.
pub(super) fn parse_id(text: &str) -> Result<KeyId, String> {
    text.parse()
        .map_err(|_| "must be a key id, such as 936da01f-9abd-4d9d-80c7-02af85c822a8".to_owned())
}

/// Reads an `ETag`, with or without its quotes.
pub(super) fn parse_etag(text: &str) -> Result<String, String> {
    let digits = text.trim_matches('"');
    if text == "*" {
        Ok(text.to_owned())
    } else if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(format!("\"{digits}\""))
    } else {
        Err("must be an ETag, such as 1".to_owned())
    }
}
