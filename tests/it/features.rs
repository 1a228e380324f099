//! Fencing, renewals, lengths of leases and cool-downs over a real socket.

use token_orchestrator::http::ServeOptions;
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Options, StoreExt};

use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;

use crate::api::{assert_json, assert_problem};
use crate::client::{Answer, Client, Server};

const LEASE_MS: u64 = 60_000;
const UNKNOWN: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

async fn with_field(client: &mut Client, method: &str, path: &str, field: &str) -> Answer {
    client.write(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).await;
    client.read(method).await
}

/// A server with one key, a connection, and the key's path.
async fn one_key() -> (Server, Client, String) {
    let server = Server::default().await;
    let path = format!("/keys/{}", server.create().await);
    let client = server.connect().await;
    (server, client, path)
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let (server, mut client, path) = one_key().await;
    let first = client.send("GET", "/keys", "").await.header("etag").unwrap().to_owned();
    server.clock.advance_ms(LEASE_MS);
    let second = client.send("GET", "/keys", "").await.header("etag").unwrap().to_owned();
    assert_ne!(first, second);
    let shown = client.send("GET", &path, "").await;
    assert_eq!(shown.header("etag"), Some(second.as_str()));
    let lease = format!("{path}/lease");
    let stale = format!("If-Match: {first}");
    for (method, path) in [("PUT", &path), ("PUT", &lease), ("DELETE", &path)] {
        let answer = with_field(&mut client, method, path, &stale).await;
        assert_problem(&answer, 412, "stale-lease");
    }
    assert_eq!(client.send("GET", &path, "").await.body, shown.body);
    let lists = format!("If-Match: {first}, W/{second}\r\nIf-Match: \"x\", {second}");
    assert_json(&with_field(&mut client, "PUT", &path, &lists).await, 200, "{}");
    assert_problem(&with_field(&mut client, "PUT", &path, &lists).await, 412, "stale-lease");
    assert_json(&with_field(&mut client, "PUT", &path, "If-Match: *").await, 200, "{}");
    assert_json(&with_field(&mut client, "DELETE", &path, "If-Match: *").await, 200, "{}");
    assert_json(&with_field(&mut client, "DELETE", &path, "If-Match: *").await, 404, "{}");
}

#[tokio::test]
async fn a_malformed_if_match_is_refused_and_changes_nothing() {
    let (server, mut client, path) = one_key().await;
    client.send("GET", "/keys", "").await;
    for field in [
        "If-Match: 1",
        "If-Match: ",
        "If-Match: \"1",
        "If-Match: *, \"1\"",
        "If-Match: *\r\nIf-Match: *",
    ] {
        for (method, path) in [("PUT", &path), ("DELETE", &path), ("PUT", &format!("{path}/lease"))]
        {
            let answer = with_field(&mut client, method, path, field).await;
            assert_problem(&answer, 400, "malformed-if-match");
        }
    }
    let stats = server.store.stats().await.unwrap();
    assert_eq!((stats.leased, stats.totals.stale_refusals), (1, 0));
}

#[tokio::test]
async fn deadlines_are_shown() {
    let server = Server::default().await;
    // At 23:59:59.500.
    let created = server.send("POST", "/keys", "").await;
    assert_eq!(created.header("key-expires-at"), Some("2024-03-01T00:04:59.500Z"));
    let many = server.send("POST", "/keys", r#"{"count":2}"#).await;
    assert_eq!(many.header("key-expires-at"), Some("2024-03-01T00:04:59.500Z"));
    let path = format!("/keys/{}", created.json()["keyId"].as_str().unwrap());
    server.clock.advance_ms(500);
    let alive = server.send("PUT", &path.replace("keys", "keepalive"), "").await;
    assert_eq!(alive.header("key-expires-at"), Some("2024-03-01T00:05:00.000Z"));
    let free = server.send("GET", &path, "").await;
    assert_eq!(free.header("key-expires-at"), Some("2024-03-01T00:05:00.000Z"));
    assert_eq!(free.header("lease-expires-at"), None);
    for _ in 0..3 {
        let lease = server.send("GET", "/keys", "").await;
        assert_eq!(lease.header("lease-expires-at"), Some("2024-03-01T00:01:00.000Z"));
    }
    let blocked = server.send("GET", &path, "").await;
    assert_eq!(blocked.header("lease-expires-at"), Some("2024-03-01T00:01:00.000Z"));
    server.clock.advance_ms(1);
    let renewed = server.send("PUT", &format!("{path}/lease"), "").await;
    assert_json(&renewed, 200, "{}");
    assert_eq!(renewed.header("lease-expires-at"), Some("2024-03-01T00:01:00.001Z"));
    assert_eq!(renewed.header("etag"), blocked.header("etag"));
    let shown = server.send("GET", &path, "").await;
    assert_eq!(shown.json()["blockedAt"], "2024-03-01T00:00:00.001Z");
}

#[tokio::test]
async fn only_a_lease_is_renewed() {
    let (server, mut client, path) = one_key().await;
    let lease = format!("{path}/lease");
    assert_problem(&client.send("PUT", &lease, "").await, 409, "not-leased");
    assert_json(&client.send("PUT", &format!("/keys/{UNKNOWN}/lease"), "").await, 404, "{}");
    assert_json(&client.send("PUT", "/keys/x/lease", "").await, 404, "{}");
    client.send("GET", "/keys", "").await;
    server.clock.advance_ms(LEASE_MS - 1);
    assert_json(&client.send("PUT", &lease, "").await, 200, "{}");
    server.clock.advance_ms(LEASE_MS);
    assert_problem(&client.send("PUT", &lease, "").await, 409, "not-leased");
    let other = client.send("GET", &lease, "").await;
    assert_problem(&other, 405, "method-not-allowed");
    assert_eq!(other.header("allow"), Some("PUT"));
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_was_asked_for() {
    let settings = Settings { lease_ms_max: 90_000, ..Settings::default() };
    let options = Options { settings, ..Options::default() };
    let server = Server::start(options, ServeOptions::default()).await;
    server.create().await;
    let mut client = server.connect().await;
    for (text, ms) in [("1ms", 1), ("1s", 1000), ("1m30s", 90_000), ("1500ms", 1500)] {
        let lease = client.send("GET", &format!("/keys?lease={text}"), "").await;
        assert_eq!(lease.status, 200, "{text}");
        server.clock.advance_ms(ms - 1);
        assert_eq!(client.send("GET", "/keys", "").await.status, 404);
        server.clock.advance_ms(1);
    }
    let path = format!(
        "/keys/{}",
        client.send("GET", "/keys", "").await.json()["keyId"].as_str().unwrap()
    );
    assert_eq!(client.send("PUT", &format!("{path}/lease?lease=5ms"), "").await.status, 200);
    server.clock.advance_ms(5);
    for text in ["0ms", "90001ms", "", "x", "1", "-1s", "1us", "1s&lease=2s", "31d"] {
        for (method, path) in [("GET", "/keys"), ("PUT", &format!("{path}/lease"))] {
            let answer = client.send(method, &format!("{path}?lease={text}"), "").await;
            assert_problem(&answer, 400, "invalid-parameter");
        }
    }
    let lease = client.send("GET", "/keys", "").await;
    assert_eq!(lease.status, 200, "what was refused has leased nothing");
}

#[tokio::test]
async fn a_key_rests_for_its_cool_down() {
    let (server, mut client, path) = one_key().await;
    client.send("GET", "/keys", "").await;
    assert_json(&client.send("PUT", &format!("{path}?cooldown=30s"), "").await, 200, "{}");
    let shown = client.send("GET", &path, "").await;
    assert_eq!(shown.json()["isBlocked"], true);
    assert_eq!(shown.json()["blockedAt"], "2024-02-29T23:59:59.500Z");
    assert_eq!(shown.header("lease-expires-at"), Some("2024-03-01T00:00:29.500Z"));
    for text in ["0s", "2h", "", "x"] {
        let answer = client.send("PUT", &format!("{path}?cooldown={text}"), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
    server.clock.advance_ms(29_999);
    assert_eq!(client.send("GET", "/keys", "").await.header("retry-after"), Some("1"));
    server.clock.advance_ms(1);
    assert_eq!(client.send("GET", "/keys", "").await.status, 200);
    client.send("PUT", &format!("{path}?cooldown=1h"), "").await;
    assert_eq!(client.send("GET", "/keys", "").await.status, 404);
    client.send("PUT", &path, "").await;
    assert_eq!(client.send("GET", "/keys", "").await.status, 200);
}

#[tokio::test]
async fn who_finds_no_key_is_told_when_to_come_back() {
    let (server, mut client, path) = one_key().await;
    client.send("GET", "/keys", "").await;
    for (ms, seconds) in [(0, "60"), (1, "60"), (999, "59"), (58_999, "1")] {
        server.clock.advance_ms(ms);
        let none = client.send("GET", "/keys", "").await;
        assert_json(&none, 404, "{}");
        assert_eq!(none.header("retry-after"), Some(seconds));
    }
    client.send("DELETE", &path, "").await;
    let none = client.send("GET", "/keys", "").await;
    assert_eq!((none.status, none.header("retry-after")), (404, None));
    assert_eq!(client.send("GET", &path, "").await.header("retry-after"), None);
}

/// Sends a GET that waits, and returns when it is in the queue.
async fn wait(server: &Server, path: &str) -> Client {
    let before = server.store.stats().await.unwrap().waiting;
    let mut client = server.connect().await;
    client.write(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    while server.store.stats().await.unwrap().waiting == before {
        yield_now().await;
    }
    client
}

async fn nobody_waits(server: &Server) {
    while server.store.stats().await.unwrap().waiting > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_get_waits_for_a_key_and_is_not_overtaken() {
    let (server, mut client, path) = one_key().await;
    let first = client.send("GET", "/keys?wait=10s", "").await;
    assert_eq!(first.status, 200);
    let mut waiters = [wait(&server, "/keys?wait=10s").await, wait(&server, "/keys?wait=1m").await];
    for waiter in &mut waiters {
        assert_eq!(client.send("GET", "/keys", "").await.status, 404);
        let pipeline =
            format!("PUT {path} HTTP/1.1\r\nHost: a\r\n\r\nGET /keys HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write(&pipeline).await;
        assert_eq!(client.read("PUT").await.status, 200);
        assert_eq!(client.read("GET").await.status, 404, "it has overtaken one who waits");
        let lease = waiter.read("GET").await;
        assert_eq!((lease.status, lease.body.as_str()), (200, first.body.as_str()));
    }
}

#[tokio::test]
async fn a_get_waits_no_longer_than_it_said() {
    let (server, mut client, _) = one_key().await;
    client.send("GET", "/keys", "").await;
    let mut waiter = wait(&server, "/keys?wait=1500ms").await;
    server.clock.advance_ms(1500);
    let none = waiter.read("GET").await;
    assert_json(&none, 404, "{}");
    assert_eq!(none.header("retry-after"), Some("59"));
    for text in ["0s", "61s", "x", ""] {
        let answer = client.send("GET", &format!("/keys?wait={text}"), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let (server, mut client, path) = one_key().await;
    client.send("GET", "/keys", "").await;
    drop(wait(&server, "/keys?wait=10s").await);
    nobody_waits(&server).await;
    let mut http2 = server.connect_http2().await;
    let request =
        hyper::Request::get("http://a/keys?wait=10s").body(http_body_util::Full::default());
    let waiter = tokio::spawn(http2.send_request(request.unwrap()));
    while server.store.stats().await.unwrap().waiting == 0 {
        yield_now().await;
    }
    waiter.abort();
    nobody_waits(&server).await;
    client.send("PUT", &path, "").await;
    assert_eq!(client.send("GET", "/keys", "").await.status, 200);
}

/// Also if it has sent more, which nobody reads while it waits.
#[tokio::test]
async fn a_client_that_goes_away_with_more_on_the_way_leaves_the_queue() {
    let (server, mut client, _) = one_key().await;
    client.send("GET", "/keys", "").await;
    for query in ["wait=1m", "wait=1m&count=2"] {
        for more in ["", "\r\n", "X", "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut waiter = wait(&server, &format!("/keys?{query}")).await;
            waiter.write(more).await;
            let mut stream = waiter.into_stream();
            stream.shutdown().await.unwrap();
            nobody_waits(&server).await;
            drop(stream);
            let mut waiter = wait(&server, &format!("/keys?{query}")).await;
            waiter.write(more).await;
            drop(waiter);
            nobody_waits(&server).await;
        }
    }
}

#[tokio::test]
async fn past_the_limit_nobody_waits() {
    let options = Options { waiters_max: 1, ..Options::default() };
    let server = Server::start(options, ServeOptions::default()).await;
    let mut waiter = wait(&server, "/keys?wait=10s").await;
    let refused = server.send("GET", "/keys?wait=10s", "").await;
    assert_problem(&refused, 503, "too-many-waiters");
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.create().await;
    assert_eq!(waiter.read("GET").await.status, 200);
}

#[tokio::test]
async fn who_waits_is_told_when_the_server_stops() {
    let server = Server::default().await;
    let mut waiters =
        [wait(&server, "/keys?wait=10s").await, wait(&server, "/keys?wait=1m&count=5").await];
    let store = server.store.clone();
    let ended = server.stop();
    for waiter in &mut waiters {
        assert_problem(&waiter.read("GET").await, 503, "stopping");
    }
    ended.await.unwrap();
    assert_eq!(store.stats().await.unwrap().waiting, 0);
}
