//! The page, and the events that it lives on.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::assert_problem;
use crate::client::{Client, Server};
use crate::operators::metrics;

/// Reads server-sent events.
pub(crate) struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn open(server: &Server) -> Self {
        Self::of(server.connect().await).await
    }

    pub(crate) async fn of(client: Client) -> Self {
        Self::asked(client, "", "").await
    }

    /// With a query, and header fields.
    pub(crate) async fn asked(mut client: Client, query: &str, fields: &str) -> Self {
        let request =
            format!("GET /dashboard/events{query} HTTP/1.0\r\nHost: test\r\n{fields}\r\n");
        client.write(&request).await;
        Self { stream: client.into_stream(), text: String::new() }
    }

    /// The next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.rsplit("\r\n\r\n").next().unwrap();
                let (name, data) = event.split_once('\n').unwrap();
                let name = name.strip_prefix("event: ").unwrap().to_owned();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                let end = self.text.len() - rest.len();
                self.text.drain(..end);
                return Some((name, data));
            }
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer).await.unwrap();
            if length == 0 {
                return None;
            }
            self.text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    }
}

#[tokio::test]
async fn a_proxy_is_told_to_pass_events_on_at_once() {
    let server = Server::default().await;
    let mut stream = server.connect().await.into_stream();
    stream.write_all(b"GET /dashboard/events HTTP/1.0\r\nHost: test\r\n\r\n").await.unwrap();
    let mut head = [0; 300];
    stream.read_exact(&mut head).await.unwrap();
    assert!(String::from_utf8_lossy(&head).contains("\r\nx-accel-buffering: no\r\n"));
}

#[tokio::test]
async fn events_tell_what_stats_tell_until_the_server_stops() {
    let server = Server::default().await;
    for _ in 0..3 {
        server.create().await;
    }
    server.send("GET", "/keys", "").await;
    let mut events = Events::open(&server).await;
    let (name, hello) = events.next().await.unwrap();
    assert_eq!((&*name, &hello["sampleMs"]), ("hello", &1000.into()));
    let (name, history) = events.next().await.unwrap();
    assert!(name == "history" && history.is_array(), "{name} {history}");
    let (name, sample) = events.next().await.unwrap();
    let stats = server.send("GET", "/stats", "").await.json();
    assert_eq!((&*name, &sample["stats"]), ("sample", &stats));
    // Those that were closed are soon forgotten.
    while events.next().await.unwrap().1["connections"] != 1 {}
    assert!(sample["requests"].as_u64().unwrap() >= 5);
    assert!(sample["residentBytes"].as_u64().unwrap() > 1_000_000);
    let mut late = Events::open(&server).await;
    late.next().await.unwrap();
    let history = late.next().await.unwrap().1;
    assert!(history.as_array().unwrap().contains(&sample), "{history}");
    let next = events.next().await.unwrap().1;
    assert!(next["at"].as_u64() > sample["at"].as_u64());
    let task = server.stop();
    while events.next().await.is_some() {}
    task.await.unwrap();
}

#[tokio::test]
async fn events_of_a_pool_tell_of_it_until_it_is_deleted() {
    let server = Server::default().await;
    server.create().await;
    server.send("PUT", "/pools/openai", "").await;
    server.send("POST", "/pools/openai/keys", r#"{"count":3}"#).await;
    server.send("GET", "/pools/openai/keys", "").await;
    let mut of_default = Events::open(&server).await;
    while of_default.next().await.unwrap().0 != "sample" {}
    let mut events = Events::asked(server.connect().await, "?pool=%6fpenai", "").await;
    let (name, hello) = events.next().await.unwrap();
    assert_eq!((&*name, &hello["sampleMs"]), ("hello", &1000.into()));
    // What was sampled before is of the default pool.
    assert_eq!(events.next().await.unwrap(), ("history".to_owned(), json!([])));
    let (name, sample) = events.next().await.unwrap();
    let stats = server.send("GET", "/pools/openai/stats", "").await.json();
    assert_eq!((&*name, &sample["stats"]), ("sample", &stats));
    assert_eq!((&stats["keys"], &stats["blocked"]), (&3.into(), &1.into()));
    // Whoever watches the default pool still gets the same, by the same names.
    let (_, other) = of_default.next().await.unwrap();
    assert_eq!(other["stats"]["keys"], 1);
    let fields = |sample: &Value| sample.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&sample), fields(&other));
    assert_eq!(fields(&sample["stats"]), fields(&other["stats"]));
    server.send("POST", "/pools/openai/keys", "").await;
    while events.next().await.unwrap().1["stats"]["keys"] != 4 {}
    // A pool with the same name is another one.
    server.send("DELETE", "/pools/openai?keys=delete", "").await;
    server.send("PUT", "/pools/openai", "").await;
    while let Some((_, sample)) = events.next().await {
        assert_ne!(sample["stats"]["keys"], 0);
    }
    // With its name, the default pool is as without it.
    let mut named = Events::asked(server.connect().await, "?pool=default", "").await;
    named.next().await.unwrap();
    let history = named.next().await.unwrap().1;
    assert!(history.as_array().unwrap().contains(&other), "{history}");
}

#[tokio::test]
async fn events_of_no_pool_are_refused() {
    let server = Server::default().await;
    for (query, status, kind, detail) in [
        ("pool=openai", 404, "no-such-pool", "Use a pool that GET /pools lists"),
        ("pool=Open%2FAI", 400, "invalid-parameter", "pool must be 1 to 63 lower-case letters"),
        ("pool=", 400, "invalid-parameter", "pool must be 1 to 63 lower-case letters"),
        ("pol=default", 400, "invalid-parameter", "did you mean pool?"),
        ("pool=default&pool=default", 400, "invalid-parameter", "pool is given twice"),
        ("pool=%ff", 400, "invalid-parameter", ""),
    ] {
        let answer = server.send("GET", &format!("/dashboard/events?{query}"), "").await;
        assert_problem(&answer, status, kind);
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(told.contains(detail), "{query}: {told}");
    }
}

#[tokio::test]
async fn viewers_have_a_limit() {
    let server = Server::default().await;
    let mut viewers = Vec::new();
    for _ in 0..100 {
        let mut events = Events::open(&server).await;
        assert!(events.next().await.is_some());
        viewers.push(events);
    }
    let answer = server.send("GET", "/dashboard/events", "").await;
    assert_eq!(
        (answer.status, &answer.json()["type"]),
        (503, &"/problems/too-many-viewers".into())
    );
    let mut client = server.connect().await;
    assert_eq!(metrics(&mut client).await["token_orchestrator_dashboard_viewers"], "100");
    drop(viewers.pop());
    while server.send("HEAD", "/dashboard/events", "").await.status == 503 {}
}

/// Over HTTP/2, with windows that stay closed: the answer is not asked for anything.
#[tokio::test]
async fn viewers_that_take_nothing_and_go_leave_their_places() {
    let server = Server::default().await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (mut sender, connection) =
        builder.handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let url = "http://test/dashboard/events";
        let request = hyper::Request::get(url).body(Full::default()).unwrap();
        answers.push(sender.send_request(request).await.unwrap());
    }
    let mut client = server.connect().await;
    let viewers = "token_orchestrator_dashboard_viewers";
    assert_eq!(metrics(&mut client).await[viewers], "3");
    drop(answers);
    while metrics(&mut client).await[viewers] != "0" {}
}

#[tokio::test]
async fn the_page_may_only_ask_its_own_server() {
    let server = Server::default().await;
    let answer = server.send("GET", "/dashboard", "").await;
    let policy = answer.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "connect-src 'self'", "script-src 'sha256-"] {
        assert!(policy.contains(part), "{policy}");
    }
    // Not the hash of nothing.
    assert!(!policy.contains("47DEQpj8HBSa"), "{policy}");
    assert!(!answer.body.contains("://") || answer.body.contains("http://www.w3.org/"));
}
