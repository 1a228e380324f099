//! The API over a store that writes to disk: no answer leaves before what it rests on is durable.

mod bounds;
mod ends;

use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Leasing, Memory, Operation, Options, Store, StoreExt};
use token_orchestrator::time::ManualClock;

use crate::certificates::Files;
use crate::client::{Server, clock, until};
use crate::fakes::Committing;

type Log = Committing<Memory<ManualClock>>;

/// No key has this id.
const UNKNOWN: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";
/// A field that leaves a request to hyper and the router, and changes nothing.
const SLOW: &str = "Connection: x\r\n";

fn store(clock: &ManualClock) -> Log {
    let store = Memory::new(Options::default(), clock.clone());
    tokio::spawn(store.clone().sweep());
    Committing::new(store)
}

async fn server(serve: ServeOptions) -> Server<Log> {
    let clock = clock();
    Server::over(store(&clock), clock, serve).await
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length =
        if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n{body}")
}

fn get(path: &str) -> String {
    request("GET", path, "", "")
}

/// Waits until so many groups of answers wait in all, and one turn longer: whatever is sent in spite of that has come then.
async fn wait_for<S: Store + Clone>(server: &Server<S>, store: &Log, waits: usize) {
    until("the answers wait", async || store.waits() >= waits).await;
    assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
}

/// Method, path and body of a request, and the status of the answer.
type Request<'a> = (&'a str, &'a str, &'a str, u16);

/// Sends each request, shows that it is not answered before its commit, and how it is answered then.
async fn each_waits(server: &Server<Log>, fields: &str, requests: &[Request<'_>]) {
    each_waits_after(server, Log::withhold, fields, requests).await;
}

async fn each_waits_after(
    server: &Server<Log>,
    withhold: fn(&Log),
    fields: &str,
    requests: &[Request<'_>],
) {
    let (store, mut client) = (&server.store, server.connect().await);
    for (method, path, body, status) in requests {
        let before = store.waits();
        withhold(store);
        client.write(&request(method, path, fields, body)).await;
        wait_for(server, store, before + 1).await;
        assert!(client.has_nothing(), "{method} {path} is answered too early");
        store.open();
        assert_eq!(client.read(method).await.status, *status, "{method} {path}");
    }
}

#[tokio::test]
async fn no_answer_about_a_key_leaves_before_its_commit() {
    for fields in ["", SLOW] {
        let server = server(ServeOptions::default()).await;
        let id = server.create().await;
        let (key, lease) = (format!("/keys/{id}"), format!("/keys/{id}/lease"));
        let (life, unknown) = (format!("/keepalive/{id}"), format!("/keys/{UNKNOWN}"));
        let requests = [
            ("GET", &*key, "", 200),
            ("GET", "/keys", "", 200),
            ("GET", "/keys", "", 404),
            ("GET", "/keys?lease=5s", "", 404),
            ("PUT", &lease, "", 200),
            ("PUT", &life, "", 200),
            ("PUT", &key, "", 200),
            ("PUT", &lease, "", 409),
            ("GET", "/keys?wait=1s", "", 200),
            ("POST", "/leases", "", 404),
            ("GET", &unknown, "", 404),
            ("PUT", &unknown, "", 404),
        ];
        each_waits(&server, fields, &requests).await;
        let stale = format!("{fields}If-Match: \"99\"\r\n");
        each_waits(&server, &stale, &[("PUT", &key, "", 412), ("DELETE", &key, "", 412)]).await;
        let requests =
            [("DELETE", &*key, "", 200), ("DELETE", &key, "", 404), ("POST", "/keys", "", 201)];
        each_waits(&server, fields, &requests).await;
        each_waits(&server, fields, &[("POST", "/leases", "", 201)]).await;
    }
}

#[tokio::test]
async fn no_answer_of_the_router_leaves_before_its_commit() {
    let server = server(ServeOptions::default()).await;
    let keys = format!(r#"{{"keyIds":["{}","{UNKNOWN}"]}}"#, server.create().await);
    let requests = [
        ("POST", "/keys", r#"{"count":3}"#, 201),
        ("GET", "/keys?count=2", "", 200),
        ("GET", "/keys?count=9&wait=1s", "", 200),
        ("GET", "/keys?count=9", "", 404),
        ("PUT", "/keys", &keys, 200),
        ("PUT", "/keepalive", &keys, 200),
        // What is refused for the pool that is not there, or for its settings, tells of these.
        ("GET", "/pools/a", "", 404),
        ("GET", "/pools/a/keys", "", 404),
        ("GET", "/pools/a/keys?lease=1s", "", 404),
        ("GET", "/dashboard/events?pool=a", "", 404),
        ("GET", "/keys?lease=999h", "", 400),
        ("PUT", &format!("/keys/{UNKNOWN}?cooldown=999h"), "", 400),
        ("PUT", &format!("/keys/{UNKNOWN}/lease?lease=999h"), "", 400),
    ];
    each_waits(&server, "", &requests).await;
}

/// The store sees to it itself that these wait.
#[tokio::test]
async fn no_answer_about_a_whole_pool_leaves_before_its_commit() {
    let server = server(ServeOptions::default()).await;
    let requests = [
        ("GET", "/stats", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/metrics", "", 200),
        ("DELETE", "/leases?holder=w", "", 200),
        ("PUT", "/pools/a", "", 201),
        ("GET", "/pools/a", "", 200),
        ("POST", "/pools/a/keys", r#"{"keys":[{"value":"sk-1"}]}"#, 201),
        ("GET", "/pools/a/keys", "", 200),
        ("GET", "/pools/a/inventory", "", 200),
        ("GET", "/pools", "", 200),
        ("DELETE", "/pools/a", "", 409),
        ("DELETE", "/pools/a?keys=delete", "", 200),
    ];
    each_waits_after(&server, Log::withhold_all, "", &requests).await;
}

/// Requests for many keys wait once for all of them.
#[tokio::test]
async fn a_batch_waits_for_one_commit() {
    let server = server(ServeOptions::default()).await;
    let ids = server.store.create(1000).await.unwrap().ids;
    let ids: Vec<_> = ids.iter().map(|id| format!(r#""{id}""#)).collect();
    let keys = format!(r#"{{"keyIds":[{}]}}"#, ids.join(","));
    for (method, path, body) in [("GET", "/keys?count=1000", ""), ("PUT", "/keys", &*keys)] {
        let asked = server.store.asked();
        each_waits(&server, "", &[(method, path, body, 200)]).await;
        assert_eq!(server.store.asked(), asked + 1, "{method} {path}");
    }
}

#[tokio::test]
async fn over_tls_and_http2_answers_wait_as_well() {
    let files = Files::new();
    let tls = Some(crate::tls::open(&files).unwrap());
    let secure = server(ServeOptions { tls, ..ServeOptions::default() }).await;
    let server = server(ServeOptions::default()).await;
    let id = server.create().await;
    let mut sealed = files.connect(secure.address).await;
    let mut http2 = server.connect_http2().await;
    for path in ["/keys", "/keys?wait=1s"] {
        secure.store.create(1).await.unwrap();
        secure.store.withhold();
        let before = secure.store.waits();
        sealed.write(&get(path).repeat(2)).await;
        until("the answers wait", async || secure.store.waits() > before).await;
        let probe = files.connect(secure.address).await.send("GET", "/healthz", "").await;
        assert_eq!(probe.status, 200);
        assert!(pin!(sealed.read("GET")).now_or_never().is_none(), "{path} over TLS");
        secure.store.open();
        assert_eq!(sealed.read("GET").await.status, 200);
        if path == "/keys" {
            assert_eq!(sealed.read("GET").await.status, 404);
        }
    }
    for path in [format!("/keys/{id}"), "/keys".to_owned(), "/stats".to_owned()] {
        let before = server.store.waits();
        server.store.withhold_all();
        let request =
            hyper::Request::get(format!("http://a{path}")).body(Full::<Bytes>::default()).unwrap();
        let answer = tokio::spawn(http2.send_request(request));
        wait_for(&server, &server.store, before + 1).await;
        assert!(!answer.is_finished(), "{path} over HTTP/2");
        server.store.open();
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

/// Each group of answers leaves at its own point. Meanwhile the same connection and others are read.
#[tokio::test]
async fn answers_leave_at_their_points_in_the_order_of_requests() {
    let server = server(ServeOptions::default()).await;
    let (store, id) = (&server.store, server.create().await);
    store.withhold();
    let (mut first, mut other) = (server.connect().await, server.connect().await);
    let key = format!("/keys/{id}");
    first.write(&[get(&key), get("/keys"), get(&key)].concat()).await;
    wait_for(&server, store, 1).await;
    other.write(&get(&key)).await;
    wait_for(&server, store, 2).await;
    first.write(&request("DELETE", &key, "", "")).await;
    wait_for(&server, store, 3).await;
    first.write(&[get(&key), request("PUT", "/keys/x", "", "")].concat()).await;
    wait_for(&server, store, 4).await;
    assert!(first.has_nothing() && other.has_nothing());

    store.commit(1);
    for (status, is_leased) in [(200, false), (200, true), (200, true)] {
        let answer = first.read("GET").await;
        assert_eq!(
            (answer.status, answer.header("lease-expires-at").is_some()),
            (status, is_leased)
        );
    }
    assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
    assert!(first.has_nothing() && other.has_nothing());
    store.commit(2);
    assert_eq!(other.read("GET").await.status, 200);
    assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
    assert!(first.has_nothing());
    store.commit(3);
    assert_eq!(first.read("DELETE").await.status, 200);
    assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
    assert!(first.has_nothing());
    // The last request is not hot: it follows when all before it are answered.
    store.open();
    assert_eq!(first.read("GET").await.status, 404);
    assert_eq!(first.read("PUT").await.status, 404);
}

/// A client that has waited for a key gets it when the lease is durable, and what it has asked behind that after it.
#[tokio::test]
async fn a_lease_that_was_waited_for_waits_for_its_commit_too() {
    for fields in ["", SLOW] {
        let server = server(ServeOptions::default()).await;
        let (store, mut client) = (&server.store, server.connect().await);
        let requests = [("/keys?wait=60s", fields), (&format!("/keys/{UNKNOWN}"), "")];
        client
            .write(&requests.map(|(path, fields)| request("GET", path, fields, "")).concat())
            .await;
        let waiting = async || store.inner.stats().await.unwrap().waiting == 1;
        until("it waits for a key", waiting).await;
        store.withhold();
        let before = store.waits();
        store.inner.create(1).await.unwrap();
        wait_for(&server, store, before + 1).await;
        assert!(client.has_nothing());
        store.open();
        assert_eq!(client.read("GET").await.status, 200);
        assert_eq!(client.read("GET").await.status, 404);
    }
}

/// The histogram of latencies shows the wait, too.
#[tokio::test]
async fn the_wait_for_a_commit_is_part_of_the_latency() {
    let server = server(ServeOptions::default()).await;
    let mut client = server.connect().await;
    server.store.withhold();
    client.write(&get("/keys")).await;
    wait_for(&server, &server.store, 1).await;
    let began = Instant::now();
    let name = r#"request_duration_seconds_count{method="GET",route="/keys"}"#;
    let metric = async |name: &str| {
        let metrics = server.send("GET", "/metrics", "").await.body;
        let value = metrics.lines().find_map(|line| line.split_once(name)?.1.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    };
    assert!(metric(name).await < 0.5, "it is counted when it leaves");
    let waited = began.elapsed();
    server.store.open();
    assert_eq!(client.read("GET").await.status, 404);
    until("it is counted", async || metric(name).await > 0.5).await;
    assert!(metric(&name.replace("count", "sum")).await >= waited.as_secs_f64());
}

/// Those who call the store themselves get nothing too early either, and leases that they do not wait for go back.
#[tokio::test]
async fn a_call_that_is_dropped_before_its_commit_gives_its_leases_back() {
    let store = store(&clock());
    store.create(3).await.unwrap();
    store.withhold();
    let free = async || store.inner.stats().await.unwrap().free;
    {
        let mut one = pin!(store.lease(Leasing::default()));
        let mut many = pin!(store.lease_many(Leasing::default(), 1));
        let operation = [Operation::Lease(Leasing::default())];
        let mut all = pin!(store.call_all(&operation));
        assert!(one.as_mut().now_or_never().is_none() && many.as_mut().now_or_never().is_none());
        assert!(all.as_mut().now_or_never().is_none());
        assert_eq!(free().await, 0);
    }
    until("all keys are free", async || free().await == 3).await;
    let mut lease = pin!(store.lease(Leasing::default()));
    assert!(lease.as_mut().now_or_never().is_none());
    store.open();
    lease.await.unwrap();
    assert_eq!(free().await, 2);
}
