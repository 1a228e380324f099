//! Values of keys are secrets: of all that a server says and writes, only the answers to leases have them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::SendRequest;
use serde_json::{Value as Json, json};
use token_orchestrator::engine::{NewKey, OwnOptions};
use token_orchestrator::http::TokenHash;
use token_orchestrator::key::{Label, Value};
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{
    Answer as StoreAnswer, Leasing, Memory, Operation, Options, OwnKey, Reply, Store, StoreExt,
};
use token_orchestrator::time::ManualClock;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::access::File;
use crate::cli::{binary, signal};
use crate::client::{Answer, Client, http2};
use crate::paths::SLOW;

/// A part of all values, which nothing else has.
const MARK: &str = "zq7Xw";

/// Whether a text has a part of a value: as it is, as the bytes of a debug format, or in hexadecimal digits.
fn has_value(text: &str) -> bool {
    let bytes = MARK.as_bytes();
    let numbers = format!("{bytes:?}");
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = text.replace("\\x", "");
    [MARK, numbers.trim_matches(['[', ']']), &hex.concat()].iter().any(|form| text.contains(form))
}

#[track_caller]
fn assert_no_value(text: &str) {
    assert!(!has_value(text), "it has a value: {text}");
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer {name}\r\n")
}

/// The server as it runs, with all logs.
struct Running {
    child: std::process::Child,
    address: SocketAddr,
    log: JoinHandle<String>,
    audit: String,
    /// It goes when the server has ended.
    _tokens: File,
}

impl Running {
    fn start() -> Self {
        let tokens = File::new("secrets", &[]);
        let line = |name: &str, end: &str| {
            format!("{name} {name} {} {end}\n", TokenHash::of(name.as_bytes()))
        };
        tokens.write_lines(&(line("admin", "") + &line("client", "max-held=5")));
        let audit = format!("{}.audit", tokens.path());
        let _ = fs::remove_file(&audit);
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--audit-log", &audit]);
        command.args(["--auth-tokens", tokens.path(), "--max-value-bytes", "100000"]);
        let mut child =
            command.env("RUST_LOG", "trace,h2=trace").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let (mut log, mut address) = (String::new(), None);
        while address.is_none() {
            let line = lines.next().expect("a line that says where it listens");
            address = line.split_once("listening on http://").map(|(_, at)| at.parse().unwrap());
            log += &(line + "\n");
        }
        let log = std::thread::spawn(move || {
            lines.for_each(|line| log += &(line + "\n"));
            log
        });
        Self { child, address: address.unwrap(), log, audit, _tokens: tokens }
    }

    /// Ends it. What it has written into its log and its audit log.
    fn end(mut self) -> [String; 2] {
        signal(&self.child, "TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let audit = fs::read_to_string(&self.audit).unwrap();
        let _ = fs::remove_file(&self.audit);
        [self.log.join().unwrap(), audit]
    }
}

/// A client that looks at each answer.
struct Looking {
    client: Client,
    fields: String,
}

impl Looking {
    async fn at(address: SocketAddr, token: &str, path: &str) -> Self {
        Self { client: Client::to(address).await, fields: format!("{}{path}", bearer(token)) }
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let fields = format!("{}Content-Length: {}\r\n", self.fields, body.len());
        self.client
            .write(&format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}"))
            .await;
        self.client.read(method).await
    }

    /// An answer with this status, that must have no value.
    async fn plain(&mut self, method: &str, path: &str, body: &str, status: u16) -> Answer {
        let answer = self.send(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_no_value(&answer.head);
        assert_no_value(&answer.body);
        answer
    }

    /// The answer to a lease, which must have a value in its body only. The id of the key.
    async fn lease(&mut self, method: &str, path: &str) -> String {
        let answer = match method {
            "GET" => self.client.ask(method, path, &self.fields).await,
            _ => {
                self.client
                    .ask(method, path, &format!("{}Idempotency-Key: {path}\r\n", self.fields))
                    .await
            }
        };
        Self::leased(&answer)
    }

    fn leased(answer: &Answer) -> String {
        assert!(matches!(answer.status, 200 | 201), "{}", answer.head);
        assert_no_value(&answer.head);
        assert!(has_value(&answer.body), "{}", answer.body);
        answer.json()["keyId"].as_str().unwrap_or_default().to_owned()
    }
}

fn keys(count: usize, from: usize) -> String {
    let key =
        |n: usize| json!({ "value": format!("{MARK}-{n}\"\\\u{1}é"), "labels": { "plan": "pro" } });
    json!({ "keys": (from..from + count).map(key).collect::<Json>() }).to_string()
}

async fn send_http2(
    client: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> (u16, String) {
    let request = Request::builder().method(method).uri(format!("http://test{path}"));
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.body(Full::from(body.to_owned())).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let (head, body) = answer.into_parts();
    assert_no_value(&format!("{head:?}"));
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

/// All that is done with keys, in one pool and on one path to the handlers.
async fn use_keys(address: SocketAddr, pool: &str, path: &str, from: usize) {
    let mut admin = Looking::at(address, "admin", path).await;
    let mut client = Looking::at(address, "client", path).await;
    let all = format!("{pool}/keys");
    for _ in 0..2 {
        admin.plain("POST", &all, &keys(10, from), 201).await;
    }
    let marked = |end: &str| format!(r#"{{"keys":[{{"value":"{MARK}{end}"#);
    for (body, status) in [
        (marked(r#""}],"count":1}"#), 422),
        (marked(r#"","value":"x"}]}"#), 422),
        (marked(r#"","labels":{"":""}}]}"#), 422),
        (marked(&format!(r#"{}"}}]}}"#, "x".repeat(5000))), 422),
        (format!(r#"{{"keys":["{MARK}"]}}"#), 422),
        (format!(r#"{{"keys":[{{"{MARK}":1}}]}}"#), 422),
        (format!(r#"{{"{MARK}":1}}"#), 422),
        (marked(""), 400),
        (format!("{MARK} {{"), 400),
        // Beyond the room for values.
        (keys(9000, 1000), 503),
    ] {
        admin.plain("POST", &all, &body, status).await;
    }
    admin.plain("POST", "/pools/none/keys", &keys(1, 0), 404).await;
    admin.plain("POST", &format!("{all}?x=1"), &keys(1, 0), 400).await;
    admin.plain("PATCH", &all, &keys(1, 0), 405).await;
    admin.plain("PUT", &all, &keys(1, 0), 422).await;
    admin.plain("POST", &format!("{pool}/leases"), &keys(1, 0), 422).await;
    client.plain("POST", &all, &keys(1, 0), 403).await;
    Looking::at(address, MARK, path).await.plain("POST", &all, &keys(1, 0), 401).await;
    // One that goes before all of its body has come.
    let mut gone = Looking::at(address, "admin", path).await;
    let head =
        format!("POST {all} HTTP/1.1\r\nHost: test\r\n{}Content-Length: 9999\r\n\r\n", gone.fields);
    gone.client.write(&format!("{head}{}", keys(5, 0))).await;
    drop(gone);
    let id = client.lease("GET", &all).await;
    let key = format!("{all}/{id}");
    client.plain("GET", &key, "", 200).await;
    client.plain("PUT", &format!("{key}/lease"), "", 200).await;
    client.plain("PUT", &format!("{pool}/keepalive/{id}"), "", 200).await;
    let leases = format!("{pool}/leases?label=plan:pro&holder=worker-7");
    client.lease("POST", &leases).await;
    client.lease("POST", &leases).await;
    client.lease("GET", &format!("{all}?count=2")).await;
    client.lease("GET", &format!("{all}?wait=5s")).await;
    client.plain("GET", &all, "", 429).await;
    client.plain("GET", &format!("{all}?holder=a%20b"), "", 400).await;
    admin.lease("GET", &format!("{all}?count=100")).await;
    admin.plain("GET", &all, "", 404).await;
    admin.plain("GET", &format!("{all}?label=plan:pro&wait=20ms"), "", 404).await;
    let changed = Looking { fields: format!("{}If-Match: \"999\"\r\n", admin.fields), ..admin };
    admin = changed;
    admin.plain("PUT", &key, "", 412).await;
    admin.plain("DELETE", &key, "", 412).await;
    admin.fields = admin.fields.replace("If-Match: \"999\"\r\n", "");
    // One that waits gets what is released, and the next one has gone.
    let mut waiting = Looking::at(address, "admin", path).await;
    let head = format!("GET {all}?wait=30s HTTP/1.1\r\nHost: test\r\n{}\r\n", waiting.fields);
    waiting.client.write(&head).await;
    let counts = format!("{pool}/stats");
    while admin.plain("GET", &counts, "", 200).await.json()["waiting"] != 1 {}
    admin.plain("PUT", &key, "", 200).await;
    let answer = waiting.client.read("GET").await;
    Looking::leased(&answer);
    waiting.client.write(&head).await;
    while admin.plain("GET", &counts, "", 200).await.json()["waiting"] != 1 {}
    drop(waiting);
    while admin.plain("GET", &counts, "", 200).await.json()["waiting"] != 0 {}
    admin.plain("PUT", &format!("{key}?cooldown=1s"), "", 200).await;
    admin.plain("DELETE", &format!("{pool}/leases?holder=worker-7"), "", 200).await;
    let inventory =
        format!("/pools/{}/inventory", pool.strip_prefix("/pools/").unwrap_or("default"));
    for query in ["", "?state=blocked", "?label=plan:pro&limit=2", "?label=plan"] {
        let status = if query == "?label=plan" { 400 } else { 200 };
        admin.plain("GET", &format!("{inventory}{query}"), "", status).await;
    }
    admin.plain("DELETE", &key, "", 200).await;
    admin.plain("GET", &key, "", 404).await;
    for path in [
        "/pools",
        "/pools/default",
        "/stats",
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/nowhere",
    ] {
        let status = if path == "/nowhere" { 404 } else { 200 };
        admin.plain("GET", path, "", status).await;
    }
    // What the next ones need.
    admin.plain("DELETE", &format!("{pool}/leases?holder=admin"), "", 200).await;
    admin.plain("DELETE", &format!("{pool}/leases?holder=client"), "", 200).await;
}

/// The first events that the dashboard gets.
async fn events(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /dashboard/events HTTP/1.0\r\nHost: test\r\n{}\r\n", bearer("admin"));
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while text.matches("\n\n").count() < 2 {
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_in_the_answers_to_leases_and_nowhere_else() {
    let server = Running::start();
    let address = server.address;
    let mut admin = Looking::at(address, "admin", "").await;
    admin.plain("PUT", "/pools/own", "", 201).await;
    for (n, (pool, path)) in
        [("", ""), ("", SLOW), ("/pools/own", ""), ("/pools/own", SLOW)].into_iter().enumerate()
    {
        use_keys(address, pool, path, n * 10).await;
    }
    let mut by_http2 = http2(TcpStream::connect(address).await.unwrap()).await;
    let (status, body) =
        send_http2(&mut by_http2, "POST", "/pools/own/keys", "admin", &keys(3, 500)).await;
    assert_eq!((status, has_value(&body)), (201, false));
    let (status, body) =
        send_http2(&mut by_http2, "POST", "/keys", "admin", &format!(r#"{{"keys":["{MARK}"]}}"#))
            .await;
    assert_eq!((status, has_value(&body)), (422, false));
    let (status, body) = send_http2(&mut by_http2, "GET", "/pools/own/keys", "admin", "").await;
    assert_eq!((status, has_value(&body)), (200, true));
    assert_no_value(&events(address).await);
    admin.plain("DELETE", "/pools/own?keys=delete", "", 200).await;
    // What is no HTTP at all.
    let mut client = Client::to(address).await;
    client.write(&format!("{MARK}\r\n\r\n")).await;
    assert_no_value(&client.read("GET").await.body);
    let mut client = Client::to(address).await;
    client.write(&format!("GET /keys HTTP/1.1\r\nHost: a\r\nX {MARK}: {MARK}\r\n\r\n")).await;
    assert_no_value(&client.read("GET").await.body);
    let [log, audit] = tokio::task::spawn_blocking(|| server.end()).await.unwrap();
    assert!(log.contains("TRACE"), "there is little in the log: {log}");
    assert!(audit.lines().count() > 100, "{audit}");
    for text in [&log, &audit] {
        text.lines().for_each(assert_no_value);
    }
}

#[tokio::test]
async fn a_debug_format_shows_no_value() {
    let value = Value::new(MARK).unwrap();
    let labels = vec![Label::parse("plan:pro").unwrap()];
    let store = Memory::new(Options::default(), ManualClock::default());
    let keys = [OwnKey { value: value.clone(), labels: labels.clone() }];
    let imported = store.import(PoolId::DEFAULT, &keys).await.unwrap();
    let shown = store.get(&imported.ids[0]).await.unwrap();
    let leased = store.lease(Leasing::default()).await.unwrap();
    assert_eq!(leased.value.as_ref().unwrap().reveal(), MARK);
    let new = NewKey { value: Some(&value), labels: &labels };
    let replies = [Reply::Leased(leased.clone()), Reply::Shown(shown)];
    let operations = [Operation::Lease(Leasing::default()), Operation::Show(leased.id)];
    let outcomes = store.call_all(&operations).await;
    let answers: Vec<_> =
        replies.iter().cloned().map(|reply| StoreAnswer::Now(Ok(reply))).collect();
    let own = OwnOptions { secret: *b"zq7Xwzq7Xwzq7Xw.", ..OwnOptions::default() };
    for text in [
        format!("{value:?} {value:#?} {:?}", Some(Arc::new(&value))),
        format!("{keys:?} {keys:#?}"),
        format!("{new:?} {new:#?}"),
        format!("{imported:?} {leased:?} {leased:#?}"),
        format!("{replies:?} {replies:#?} {answers:?}"),
        format!("{operations:?} {outcomes:?}"),
        // The secret that hashes them is none to show, either.
        format!("{own:?} {own:#?}"),
    ] {
        let words: Vec<_> = text.split_whitespace().collect();
        assert_no_value(&words.join(" "));
    }
}
