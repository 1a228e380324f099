//! The audit log: a line for each request that changes or gives something, the same by whichever path it came.

use std::fs;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use serde_json::{Value, json};
use token_orchestrator::http::{Access, AuditLog, Role, ServeOptions, TokenHash};
use token_orchestrator::key::KeyId;
use token_orchestrator::store::{Options, StoreExt};

use crate::access::{File, bearer};
use crate::client::{Answer, Client, Server, until};
use crate::paths::{SLOW, bytes};

/// The lines of a server.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    async fn server(&self, access: Access) -> Server {
        let lines = self.clone();
        let take = move |line| lines.0.lock().unwrap().push(String::from_utf8(line).unwrap());
        let audit = Some(AuditLog::new(take, Arc::default()));
        Server::start(Options::default(), ServeOptions { access, audit, ..Default::default() })
            .await
    }

    /// Takes the lines that have come. Each must be whole, and none may have a whole id of a key.
    fn take(&self) -> Vec<Value> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap());
        let read = |line: &String| {
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
            let read: Value = serde_json::from_str(line).unwrap();
            // The server makes ids of requests that look like those of keys.
            let rest = line.replace(read["requestId"].as_str().unwrap(), "");
            let mut words = rest.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
            assert!(words.all(|word| word.parse::<KeyId>().is_err()), "{line}");
            read
        };
        lines.iter().map(read).collect()
    }

    /// The only line that has come, without the time, which must be that of now, and without the peer's port.
    fn one(&self) -> Value {
        let lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        plain(lines[0].clone())
    }
}

/// A line without what differs from test to test.
fn plain(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    let time = fields.remove("time").unwrap();
    let time = humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    assert!(time.elapsed().unwrap().as_secs() < 60, "{time:?}");
    let peer = fields.remove("peer").unwrap();
    assert!(peer.as_str().unwrap().starts_with("127.0.0.1:"), "{peer}");
    line
}

fn open() -> Access {
    Access::open()
}

/// A line as it should be, without a request id.
fn line(method: &str, route: &str, status: u16, mut more: Value) -> Value {
    (more["method"], more["route"], more["status"]) = (method.into(), route.into(), status.into());
    more
}

fn without_id(mut line: Value) -> Value {
    line.as_object_mut().unwrap().remove("requestId").unwrap();
    line
}

fn generation(answer: &Answer) -> u64 {
    answer.header("etag").unwrap().trim_matches('"').parse().unwrap()
}

/// The cycle of a careful client has the same lines, and the same answers, on either path.
#[tokio::test]
async fn each_request_has_the_same_line_whichever_path_it_took() {
    let mut both = Vec::new();
    for path in ["", SLOW] {
        let log = Lines::default();
        let server = log.server(open()).await;
        let mut client = server.connect().await;
        let created = client.ask("POST", "/keys", path).await;
        let id = created.json()["keyId"].as_str().unwrap().to_owned();
        let key = &id[..8];
        assert_eq!(without_id(log.one()), line("POST", "/keys", 201, json!({ "key": key })));
        let leased = client.ask("GET", "/keys", path).await;
        let now = generation(&leased);
        let mut answers = vec![created, leased];
        let expected = line("GET", "/keys", 200, json!({ "key": key, "generation": now }));
        assert_eq!(without_id(log.one()), expected);
        let of_now = json!({ "key": key, "generation": now });
        let of_old = json!({ "key": key, "generation": 999 });
        let of_key = json!({ "key": key });
        let (tag, target) = (format!("\"{now}\""), format!("/keys/{id}"));
        for (method, end, fence, route, status, more) in [
            ("GET", "LEASE", "", "/keys", 404, json!({})),
            ("POST", "/leases", "", "/leases", 404, json!({})),
            ("PUT", "KEY/lease?lease=30s", &*tag, "/keys/{id}/lease", 200, of_now.clone()),
            ("PUT", "KEY/lease", "", "/keys/{id}/lease", 200, of_now.clone()),
            ("PUT", "KEY/lease", "\"999\"", "/keys/{id}/lease", 412, of_old.clone()),
            ("PUT", "KEY?cooldown=2s", "\"999\"", "/keys/{id}", 412, of_old.clone()),
            ("DELETE", "KEY", "\"999\"", "/keys/{id}", 412, of_old.clone()),
            ("PUT", "/keepalive/ID", "\"999\"", "/keepalive/{id}", 200, of_key.clone()),
            ("PUT", "KEY", &*tag, "/keys/{id}", 200, of_now.clone()),
            ("PUT", "KEY", "*", "/keys/{id}", 200, of_key.clone()),
            ("PUT", "KEY", "\"998\", \"999\"", "/keys/{id}", 412, of_key.clone()),
            ("PUT", "KEY", "7x", "/keys/{id}", 400, of_key.clone()),
            ("PUT", "KEY/lease", "", "/keys/{id}/lease", 409, of_key.clone()),
            ("PUT", "KEY?cooldown=x", "", "/keys/{id}", 400, of_key.clone()),
            ("DELETE", "KEY", "", "/keys/{id}", 200, of_key.clone()),
            ("DELETE", "KEY", "\"3\"", "/keys/{id}", 404, json!({ "key": key, "generation": 3 })),
            ("PUT", "/keepalive/ID", "", "/keepalive/{id}", 404, of_key.clone()),
            ("PUT", "/keepalive/x", "", "/keepalive/{id}", 404, json!({})),
        ] {
            let end = end.replace("LEASE", "/keys?lease=5s").replace("KEY", &target);
            let end = end.replace("ID", &id.to_uppercase());
            let field = match fence {
                "" => String::new(),
                fence => format!("If-Match: {fence}\r\n"),
            };
            let answer = client.ask(method, &end, &format!("{field}{path}")).await;
            assert_eq!(without_id(log.one()), line(method, route, status, more), "{method} {end}");
            answers.push(answer);
        }
        let shown = |answer: &Answer| {
            let made = answer.header("x-request-id").unwrap().to_owned();
            bytes(answer).replace(&made, "MADE").replace(&id, "ID")
        };
        both.push(answers.iter().map(shown).collect::<Vec<_>>());
    }
    assert_eq!(both[0], both[1]);
}

/// A request that waits has its line when it is answered: with a key, in vain, or because the server stops.
#[tokio::test]
async fn a_request_that_waits_has_its_line_when_it_is_answered() {
    for (method, path) in [("GET", "/keys"), ("POST", "/leases")] {
        let mut both = Vec::new();
        for way in ["", SLOW] {
            let log = Lines::default();
            let server = log.server(open()).await;
            let id = server.create().await;
            assert_eq!(server.send("GET", "/keys", "").await.status, 200);
            let waiting = async |number| {
                until("they wait", async || server.store.stats().await.unwrap().waiting == number)
                    .await;
            };
            let wait = |id| {
                format!(
                    "{method} {path}?wait=10s HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n{way}\r\n"
                )
            };
            let mut client = server.connect().await;
            client.write(&wait("freed")).await;
            waiting(1).await;
            log.take();
            server.send("PUT", &format!("/keys/{id}"), "").await;
            let freed = client.read("GET").await;
            assert_eq!(freed.header("x-request-id"), Some("freed"));
            let lines: Vec<_> = log.take().into_iter().map(plain).collect();
            let of_lease = lines.iter().find(|line| line["requestId"] == "freed").unwrap();
            assert_eq!(of_lease["key"], id[..8]);
            assert_eq!(of_lease["generation"], generation(&freed));
            client.write(&wait("in-vain")).await;
            waiting(1).await;
            assert_eq!(log.take(), Vec::<Value>::new(), "it is not answered yet");
            server.clock.advance_ms(10_000);
            assert_eq!(client.read("GET").await.status, 404);
            let in_vain = log.one();
            client.write(&wait("stopped")).await;
            waiting(1).await;
            let stopped = server.stop();
            assert_eq!(client.read("GET").await.status, 503);
            stopped.await.unwrap();
            let stopped = log.one();
            let route = format!("{path}?wait");
            let status = if method == "GET" { 200 } else { 201 };
            assert_eq!(of_lease["status"], status);
            let expected = json!({ "requestId": "in-vain" });
            assert_eq!(in_vain, line(method, &route, 404, expected));
            let expected = json!({ "requestId": "stopped" });
            assert_eq!(stopped, line(method, &route, 503, expected));
            both.push(bytes(&freed).replace(&id, "ID"));
        }
        assert_eq!(both[0], both[1]);
    }
}

#[tokio::test]
async fn requests_for_many_keys_have_their_number() {
    let log = Lines::default();
    let server = log.server(open()).await;
    let mut client = server.connect().await;
    let created = client.send("POST", "/keys", r#"{"count":5}"#).await.json();
    let ids = created["keyIds"].as_array().unwrap();
    assert_eq!(without_id(log.one()), line("POST", "/keys", 201, json!({ "keys": 5 })));
    client.send("GET", "/keys?count=2", "").await;
    assert_eq!(without_id(log.one()), line("GET", "/keys", 200, json!({ "keys": 2 })));
    client.send("POST", "/leases?count=9&wait=1s", "").await;
    assert_eq!(without_id(log.one()), line("POST", "/leases?wait", 201, json!({ "keys": 3 })));
    client.send("GET", "/keys?count=2", "").await;
    assert_eq!(without_id(log.one()), line("GET", "/keys", 404, json!({})));
    let body = json!({ "keyIds": [ids[0], ids[1], "x"] }).to_string();
    for path in ["/keys", "/keepalive"] {
        assert_eq!(client.send("PUT", path, &body).await.status, 200);
        assert_eq!(without_id(log.one()), line("PUT", path, 200, json!({ "keys": 3 })));
        assert_eq!(client.send("PUT", path, "[]").await.status, 422);
        assert_eq!(without_id(log.one()), line("PUT", path, 422, json!({})));
    }
}

/// Whoever was let in has the name of the token, and so has whoever was refused with a known one.
#[tokio::test]
async fn lines_name_tokens_and_every_refusal_has_one() {
    let file = File::new("audit", &Role::ALL);
    let log = Lines::default();
    let access = file.access();
    let server = log.server(access.clone()).await;
    let [client, admin, metrics] = Role::ALL.map(bearer);
    let others = format!("others client {} openai", TokenHash::of(b"others"));
    file.write_lines(&(fs::read_to_string(file.path()).unwrap() + &others));
    access.reload().unwrap();
    let others = "Authorization: Bearer others\r\n".to_owned();
    // Longer than what a connection remembers.
    let padded = format!("Authorization: Bearer {}client\r\n", " ".repeat(300));
    let wrong = "Authorization: Bearer nobody\r\n".to_owned();
    for way in ["", SLOW] {
        let mut connection = server.connect().await;
        for (method, path, fields, route, status, token) in [
            ("POST", "/keys", &admin, "/keys", 201, Some("admin")),
            ("GET", "/keys", &client, "/keys", 200, Some("client")),
            ("GET", "/keys", &client, "/keys", 404, Some("client")),
            ("GET", "/keys", &padded, "/keys", 404, Some("client")),
            ("POST", "/leases", &admin, "/leases", 404, Some("admin")),
            ("POST", "/keys", &client, "/keys", 403, Some("client")),
            ("GET", "/keys", &metrics, "/keys", 403, Some("metrics")),
            ("GET", "/keys", &others, "/keys", 403, Some("others")),
            ("GET", "/stats", &others, "/stats", 403, Some("others")),
            ("GET", "/keys", &String::new(), "/keys", 401, None),
            ("GET", "/keys", &wrong, "/keys", 401, None),
            ("GET", "/stats", &wrong, "/stats", 401, None),
            ("GET", "/metrics", &client, "/metrics", 403, Some("client")),
            ("GET", "/keys/x", &metrics, "/keys/{id}", 403, Some("metrics")),
            ("BREW", "/coffee", &client, "other", 403, Some("client")),
        ] {
            let answer = connection.ask(method, path, &format!("{fields}{way}")).await;
            let method = if route == "other" { "other" } else { method };
            let mut lines = log.take();
            assert_eq!(lines.len(), 1, "{path}: {lines:?}");
            let line = plain(lines.remove(0));
            assert_eq!(line["status"], status, "{method} {path}");
            assert_eq!((&line["method"], &line["route"]), (&json!(method), &json!(route)));
            assert_eq!(line.get("token").and_then(Value::as_str), token, "{method} {path}");
            assert_eq!(answer.header("x-request-id"), line["requestId"].as_str());
        }
        let id = "936da01f-9abd-4d9d-80c7-02af85c822a8";
        for (path, fields) in [
            (&*format!("/keys/{id}"), &*client),
            ("/stats", &*client),
            ("/metrics", &*metrics),
            ("/coffee", &*admin),
            ("/healthz", ""),
            ("/readyz", ""),
            ("/dashboard", ""),
            ("/docs/", ""),
        ] {
            let answer = connection.ask("GET", path, &format!("{fields}{way}")).await;
            assert_eq!((log.take(), answer.header("x-request-id")), (vec![], None), "{path}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_refused_for_its_host_or_its_site_has_a_line() {
    let log = Lines::default();
    let server = log.server(Access::open_to_hosts(vec!["keys.example".to_owned()])).await;
    for (host, more, status) in [
        ("keys.example", "", 404),
        ("elsewhere.example", "", 421),
        ("keys.example", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("a b", "", 400),
    ] {
        let mut client = server.connect().await;
        client.write(&format!("GET /keys HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")).await;
        assert_eq!(client.read("GET").await.status, status);
        assert_eq!(without_id(log.one()), line("GET", "/keys", status, json!({})));
    }
    // What shows something has a line only if it was refused.
    for (host, lines) in [("keys.example", 0), ("elsewhere.example", 1)] {
        let mut client = server.connect().await;
        client.write(&format!("GET /stats HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.read("GET").await;
        assert_eq!(log.take().len(), lines, "{host}");
    }
}

/// A well-formed id is taken over, any other one replaced by a random one; the answer and the line agree.
#[tokio::test]
async fn a_request_has_the_id_and_the_trace_that_its_client_sent_if_they_are_well_formed() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let log = Lines::default();
    let server = log.server(open()).await;
    let trace = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let of_trace = Some((TRACE, "b7ad6b7169203331"));
    let longest = "x".repeat(128);
    let longer = "x".repeat(129);
    for way in ["", SLOW] {
        let mut client = server.connect().await;
        for (fields, id, trace) in [
            ("X-Request-Id: a\r\n".to_owned(), Some("a"), None),
            ("x-request-id:  <\"a\\b\">  \r\n".to_owned(), Some("<\"a\\b\">"), None),
            (format!("X-REQUEST-ID: {longest}\r\n{trace}"), Some(&*longest), of_trace),
            (format!("X-Request-Id: {longer}\r\n"), None, None),
            (trace.to_uppercase().replace("00-", "00-0"), None, None),
            (trace.clone(), None, of_trace),
            (trace.repeat(2), None, None),
            ("X-Request-Id: a b\r\n".to_owned(), None, None),
            ("X-Request-Id: \u{e4}\r\n".to_owned(), None, None),
            ("X-Request-Id:\r\n".to_owned(), None, None),
            ("X-Request-Id: a\r\nX-Request-Id: a\r\n".to_owned(), None, None),
            (String::new(), None, None),
        ] {
            let answer = client.ask("GET", "/keys", &format!("{fields}{way}")).await;
            let (line, answered) = (log.one(), answer.header("x-request-id").unwrap());
            assert_eq!(line["requestId"], answered);
            match id {
                Some(id) => assert_eq!(answered, id, "{fields}"),
                None => assert!(is_random_uuid(answered), "{fields}: {answered}"),
            }
            let trace = trace.map(|(trace, parent)| (json!(trace), json!(parent)));
            let found = line.get("traceId").cloned().zip(line.get("parentId").cloned());
            assert_eq!(found, trace, "{fields}");
        }
    }
}

fn is_random_uuid(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    (text.len(), digits) == (36, 32) && text.as_bytes()[14] == b'4'
}

#[tokio::test]
async fn http2_has_lines_too() {
    let log = Lines::default();
    let server = log.server(open()).await;
    let mut client = server.connect_http2().await;
    let request = hyper::Request::post("http://test/keys").header("x-request-id", "by-http2");
    let answer = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "by-http2");
    let line = log.one();
    assert_eq!((&line["requestId"], &line["status"]), (&json!("by-http2"), &json!(201)));
}

/// Pipelined requests have their lines in the order of their answers.
#[tokio::test]
async fn a_pipeline_has_a_line_for_each_request() {
    let log = Lines::default();
    let server = log.server(open()).await;
    let mut client: Client = server.connect().await;
    let request =
        |number| format!("POST /keys HTTP/1.1\r\nHost: a\r\nX-Request-Id: {number}\r\n\r\n");
    client.write(&(0..1000).map(request).collect::<String>()).await;
    for number in 0..1000 {
        assert_eq!(client.read("POST").await.header("x-request-id"), Some(&*number.to_string()));
    }
    let ids: Vec<_> = log.take().iter().map(|line| line["requestId"].clone()).collect();
    assert_eq!(ids, (0..1000).map(|number| json!(number.to_string())).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_an_audit_log_nothing_is_echoed() {
    let server = Server::default().await;
    for way in ["", SLOW] {
        let mut client = server.connect().await;
        let answer = client.ask("GET", "/keys", &format!("X-Request-Id: a\r\n{way}")).await;
        assert_eq!(answer.header("x-request-id"), None);
    }
}
