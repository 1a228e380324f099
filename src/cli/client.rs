//! Requests to a server.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::timeout;

use super::address::parse_server;
use super::failure::Failure;
use super::reasons::explain;
use super::trust::{authorization, tls};
use crate::http::COUNT_MAX;
use crate::key::KeyId;
use crate::pool::PoolName;

/// How long an answer may take, in addition to the time that a request waits for a key.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is escaped in the value of a parameter. A colon may stay: it stands in labels, and the server is fastest with
/// parameters without escapes.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// The server that requests are sent to.
#[derive(clap::Args)]
pub(super) struct Server {
    /// The address of the server, such as `https://keys.example.org:8443`. Proxies are not used, because a
    /// key id is a secret
    #[arg(
        long = "server",
        env = "TOKEN_ORCHESTRATOR_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        value_parser = parse_server
    )]
    url: Uri,
    /// Trust the issuers in this PEM file, and no others. Without it, the issuers that the system trusts
    #[arg(long, env = "TOKEN_ORCHESTRATOR_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The file with the token to authenticate with. Without it, the token is taken from
    /// `TOKEN_ORCHESTRATOR_TOKEN`. A token is sent over https:// only, or to this machine
    #[arg(long, env = "TOKEN_ORCHESTRATOR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Clone)]
pub(super) struct Client {
    /// Uses no proxy and follows no redirect, so that no third party sees a key or the token.
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: Uri,
    /// The pool whose paths requests have. Without one they have those without the name of a pool.
    pool: Option<PoolName>,
    ca_cert: Option<PathBuf>,
    authorization: Option<HeaderValue>,
}

/// A request.
pub(super) struct ApiRequest<'a> {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    if_match: Option<&'a str>,
    /// In JSON.
    body: Option<Bytes>,
    patience: Duration,
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    headers: HeaderMap,
}

impl Server {
    /// A client of this server.
    ///
    /// # Errors
    ///
    /// If a file cannot be used, or the token must not be sent to this server.
    pub(super) fn client(self) -> Result<Client, String> {
        let Self { url: server, ca_cert, token_file } = self;
        let authorization = authorization(&server, token_file.as_deref())?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(&server, ca_cert.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new()).build(https);
        Ok(Client { http, server, pool: None, ca_cert, authorization })
    }
}

impl<'a> ApiRequest<'a> {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        let (path, query) = (path.into(), Vec::new());
        Self { method, path, query, if_match: None, body: None, patience: PATIENCE }
    }

    /// Adds a parameter in milliseconds, if there is a value.
    pub(super) fn ms(self, name: &'static str, ms: Option<u32>) -> Self {
        self.parameter(name, ms.map(|ms| format!("{ms}ms")))
    }

    /// Adds a parameter, if there is a value.
    pub(super) fn parameter(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Adds the time to wait for a key, and allows the answer so much more.
    pub(super) fn wait(mut self, ms: Option<u32>) -> Self {
        self.patience += Duration::from_millis(ms.unwrap_or(0).into());
        self.ms("wait", ms)
    }

    /// Limits how long the answer may take.
    pub(super) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn if_match(mut self, etag: Option<&'a str>) -> Self {
        self.if_match = etag;
        self
    }

    pub(super) fn body(self, body: Option<Value>) -> Self {
        Self { body: body.map(|body| body.to_string().into()), ..self }
    }

    /// Sets a body that is written in JSON already.
    pub(super) fn json(self, body: Bytes) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Client {
    /// The same client, whose requests have the paths of this pool; without one, those without the name of a pool.
    pub(super) fn of_pool(self, pool: Option<PoolName>) -> Self {
        Self { pool, ..self }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    ///
    /// If there is no answer in time, or the answer is a refusal.
    pub(super) async fn send(&self, request: ApiRequest<'_>) -> Result<Answer, Failure> {
        let patience = request.patience;
        let request = self.build(request).map_err(|error| self.no_answer(&error))?;
        let (status, headers, body) = timeout(patience, self.exchange(request))
            .await
            .map_err(|_| self.no_answer(&TooSlow(patience)))?
            .map_err(|error| self.no_answer(error.as_ref()))?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() && body.is_object() {
            return Ok(Answer { status, body, headers });
        }
        let retry_after = header(&headers, "retry-after").map(str::to_owned);
        let (status, pool) = (status.as_u16(), self.pool.clone());
        Err(Failure::Refused { status, body, retry_after, pool })
    }

    /// The HTTP request to send. Its path follows those of the server's address and of the pool.
    fn build(&self, parts: ApiRequest<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut query: Vec<_> = self.server.query().map(str::to_owned).into_iter().collect();
        query.extend(
            parts
                .query
                .into_iter()
                .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, ESCAPED))),
        );
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let base = self.server.path();
        let base = base.strip_suffix('/').unwrap_or(base);
        let path = match &self.pool {
            Some(pool) if parts.path.is_empty() => format!("pools/{pool}"),
            Some(pool) => format!("pools/{pool}/{}", parts.path),
            None => parts.path,
        };
        let mut url = self.server.clone().into_parts();
        url.path_and_query = Some(format!("{base}/{path}{query}").parse()?);
        let mut request = Request::builder().method(parts.method).uri(Uri::from_parts(url)?);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(etag) = parts.if_match {
            request = request.header(IF_MATCH, etag);
        }
        let Some(body) = parts.body else { return request.body(Full::default()) };
        request.header(CONTENT_TYPE, "application/json").body(Full::from(body))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Box<dyn Error + Send + Sync>> {
        let (head, body) = self.http.request(request).await?.into_parts();
        Ok((head.status, head.headers, body.collect().await?.to_bytes()))
    }

    fn no_answer(&self, error: &(dyn Error + 'static)) -> Failure {
        let why = explain(error, self.ca_cert.as_deref());
        Failure::NoAnswer(format!("no answer from {}: {why}", self.server))
    }
}

/// The answer took longer than this.
#[derive(Debug)]
struct TooSlow(Duration);

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write!(f, "timed out after {}", humantime::format_duration(Duration::from_millis(ms)))
    }
}

impl Error for TooSlow {}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// A field of the body, if it is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.body[name].as_str()
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads a number of keys.
pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count));
    count.ok_or_else(|| format!("must be a number of keys from 1 to {COUNT_MAX}, such as 10"))
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
        Err("must be the ETag of a lease, such as 1, or * for any lease".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn client(url: &str) -> Client {
        let server = Server { url: parse_server(url).unwrap(), ca_cert: None, token_file: None };
        server.client().unwrap()
    }

    #[test]
    fn paths_and_parameters_follow_the_address() {
        for (address, url) in [
            ("localhost:1", "http://localhost:1/keys?lease=5ms&count=2"),
            ("localhost:1/pool/", "http://localhost:1/pool/keys?lease=5ms&count=2"),
            ("localhost:1/a/b?of=me", "http://localhost:1/a/b/keys?of=me&lease=5ms&count=2"),
        ] {
            let request = ApiRequest::new(Method::GET, "keys").ms("lease", Some(5));
            let request = request.parameter("count", Some(2)).parameter("wait", None::<u32>);
            assert_eq!(client(address).build(request).unwrap().uri().to_string(), url);
        }
        let request = || ApiRequest::new(Method::GET, "stats");
        assert_eq!(client("localhost").build(request()).unwrap().uri(), "http://localhost/stats");
        let of_pool = client("localhost/a?of=me").of_pool("openai".parse().ok());
        for (request, url) in [
            (request(), "http://localhost/a/pools/openai/stats?of=me"),
            (ApiRequest::new(Method::PUT, ""), "http://localhost/a/pools/openai?of=me"),
        ] {
            assert_eq!(of_pool.build(request).unwrap().uri(), url);
        }
    }

    #[test]
    fn values_of_parameters_are_escaped() {
        for (value, sent) in [
            ("plan:pro-1.0_a~b", "plan:pro-1.0_a~b"),
            ("a&lease=1ms", "a%26lease%3D1ms"),
            ("50% + #é\n", "50%25%20%2B%20%23%C3%A9%0A"),
        ] {
            let request = ApiRequest::new(Method::GET, "keys").parameter("label", Some(value));
            let url = client("localhost").build(request).unwrap().uri().to_string();
            assert_eq!(url, format!("http://localhost/keys?label={sent}"));
        }
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_not_awaited() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&silent.local_addr().unwrap().to_string());
        let request = ApiRequest::new(Method::GET, "stats").within(Duration::from_micros(20_999));
        let failure = client.send(request).await.map(|answer| answer.body).unwrap_err();
        assert!(failure.message("").ends_with("/: timed out after 20ms."), "{failure:?}");
    }
}
