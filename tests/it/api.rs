//! Each route and ruling over a real socket.

use token_orchestrator::http::{BATCH_BYTES_MAX, BODY_BYTES_MAX, ServeOptions};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Options, StoreExt};

use crate::client::{Answer, Server};

const UNKNOWN: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

pub(crate) fn assert_json(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

pub(crate) fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let problem = answer.json();
    assert_eq!(problem["type"], format!("/problems/{kind}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
}

#[tokio::test]
async fn post_creates_a_key_and_tells_where() {
    let server = Server::default().await;
    let answer = server.send("POST", "/keys", "").await;
    let id = answer.json()["keyId"].as_str().unwrap().to_owned();
    assert_json(&answer, 201, &format!(r#"{{"keyId":"{id}"}}"#));
    assert_eq!(answer.header("location"), Some(format!("/keys/{id}").as_str()));
    assert_eq!((id.len(), &id[14..15]), (36, "4"));
    assert_eq!(server.send("GET", &format!("/keys/{id}"), "").await.status, 200);
}

#[tokio::test]
async fn post_creates_as_many_as_it_is_told() {
    let server = Server::default().await;
    for (body, count) in
        [(r#"{"count":1}"#, 1), (r#" { "count" : 30 } "#, 30), (r#"{"count":100000}"#, 100_000)]
    {
        let answer = server.send("POST", "/keys", body).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("location"), None);
        let body = answer.json();
        assert_eq!(body["keyIds"].as_array().unwrap().len(), count);
        assert_eq!(body.as_object().unwrap().len(), 1);
    }
    assert_eq!(server.store.stats().await.unwrap().free, 100_031);
    let answer = server.send("POST", "/keys", "{}").await;
    assert!(answer.json()["keyId"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn post_refuses_what_it_does_not_understand_and_creates_nothing() {
    let server = Server::default().await;
    for body in [
        "{",
        "count",
        "{\"count\":}",
        "\u{7}",
        "{\"count\":1}x",
        "{'count':1}",
        "{\"count\":-1",
        "[\"a\" x",
        "5 x",
    ] {
        assert_problem(&server.send("POST", "/keys", body).await, 400, "malformed-body");
    }
    for body in [
        "[]",
        "1",
        "null",
        "\"\"",
        r#"{"count":"1"}"#,
        r#"{"count":1.5}"#,
        r#"{"count":null}"#,
        r#"{"count":0}"#,
        r#"{"count":-1}"#,
        r#"{"count":100001}"#,
        r#"{"n":1}"#,
        r#"{"count":18446744073709551616}"#,
        r#"{"count":1,"n":2}"#,
        r#"{"count":1,"count":1}"#,
    ] {
        assert_problem(&server.send("POST", "/keys", body).await, 422, "invalid-body");
    }
    assert_eq!(server.store.stats().await.unwrap().keys, 0);
}

#[tokio::test]
async fn a_full_pool_creates_nothing_and_says_when_to_come_back() {
    let options =
        Options { settings: Settings { keys_max: 5, ..Settings::default() }, ..Options::default() };
    let server = Server::start(options, ServeOptions::default()).await;
    server.create().await;
    server.clock.advance_ms(100);
    let answer = server.send("POST", "/keys", r#"{"count":5}"#).await;
    assert_problem(&answer, 503, "pool-full");
    assert_eq!(answer.header("retry-after"), Some("300"));
    // So many never have room, so there is nothing to come back for.
    let never = server.send("POST", "/keys", r#"{"count":6}"#).await;
    assert_problem(&never, 422, "larger-than-pool");
    assert_eq!(never.header("retry-after"), None);
    assert_eq!(server.store.stats().await.unwrap().keys, 1);
}

#[tokio::test]
async fn get_leases_a_key_or_finds_none() {
    let server = Server::default().await;
    assert_json(&server.send("GET", "/keys", "").await, 404, "{}");
    let id = server.create().await;
    let answer = server.send("GET", "/keys", "").await;
    assert_json(&answer, 200, &format!(r#"{{"keyId":"{id}"}}"#));
    assert_json(&server.send("GET", "/keys", "").await, 404, "{}");
    server.clock.advance_ms(59_999);
    assert_json(&server.send("GET", "/keys", "").await, 404, "{}");
    server.clock.advance_ms(1);
    assert_eq!(server.send("GET", "/keys", "").await.status, 200);
}

#[tokio::test]
async fn get_shows_a_key() {
    let server = Server::default().await;
    server.clock.advance_ms(250);
    let path = format!("/keys/{}", server.create().await);
    let free = r#"{"isBlocked":false,"blockedAt":null,"createdAt":"2024-02-29T23:59:59.750Z"}"#;
    assert_json(&server.send("GET", &path, "").await, 200, free);
    server.clock.advance_ms(251);
    server.send("GET", "/keys", "").await;
    server.clock.advance_ms(59_999);
    let leased = concat!(
        r#"{"isBlocked":true,"blockedAt":"2024-03-01T00:00:00.001Z","#,
        r#""createdAt":"2024-02-29T23:59:59.750Z"}"#
    );
    assert_json(&server.send("GET", &path, "").await, 200, leased);
    server.clock.advance_ms(1);
    assert_json(&server.send("GET", &path, "").await, 200, free);
}

#[tokio::test]
async fn put_releases_a_key_as_often_as_it_is_asked() {
    let server = Server::default().await;
    let path = format!("/keys/{}", server.create().await);
    server.send("GET", "/keys", "").await;
    for _ in 0..2 {
        assert_json(&server.send("PUT", &path, "").await, 200, "{}");
    }
    assert_eq!(server.send("GET", "/keys", "").await.status, 200);
    assert_eq!(server.send("GET", "/keys", "").await.status, 404);
}

#[tokio::test]
async fn keepalive_keeps_a_key_and_its_lease() {
    let server = Server::default().await;
    let id = server.create().await;
    server.clock.advance_ms(299_999);
    server.send("GET", "/keys", "").await;
    let path = format!("/keys/{id}");
    let before = server.send("GET", &path, "").await.body;
    assert_json(&server.send("PUT", &format!("/keepalive/{id}"), "").await, 200, "{}");
    server.clock.advance_ms(59_999);
    assert_json(&server.send("GET", &path, "").await, 200, &before);
    server.clock.advance_ms(240_000);
    assert_eq!(server.send("GET", &path, "").await.status, 200);
    server.clock.advance_ms(1);
    assert_json(&server.send("PUT", &format!("/keepalive/{id}"), "").await, 404, "{}");
}

#[tokio::test]
async fn delete_removes_a_key() {
    let server = Server::default().await;
    let path = format!("/keys/{}", server.create().await);
    server.send("GET", "/keys", "").await;
    assert_json(&server.send("DELETE", &path, "").await, 200, "{}");
    for method in ["GET", "PUT", "DELETE"] {
        assert_json(&server.send(method, &path, "").await, 404, "{}");
    }
}

#[tokio::test]
async fn every_id_that_names_no_key_is_answered_alike() {
    let server = Server::default().await;
    let dead = server.create().await;
    server.clock.advance_ms(300_000);
    let living = server.create().await;
    let long = "x".repeat(5000);
    let (cut, simple) = (&living[1..], living.replace('-', ""));
    let other_half = format!("{}{}", &UNKNOWN[..19], &living[19..]);
    for id in [
        UNKNOWN,
        &dead,
        "x",
        "",
        "%ff",
        "%00",
        "%2F",
        "..",
        "1",
        &long,
        cut,
        &simple,
        &other_half,
        "ключ",
        "00000000-0000-0000-0000-000000000000",
        &format!("{living}%20"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            assert_json(&server.send(method, &format!("/keys/{id}"), "").await, 404, "{}");
        }
        assert_json(&server.send("PUT", &format!("/keepalive/{id}"), "").await, 404, "{}");
    }
    let path = format!("/keys/{}", living.to_uppercase());
    assert_eq!(server.send("GET", &path, "").await.status, 200);
}

#[tokio::test]
async fn head_does_not_lease_a_key() {
    let server = Server::default().await;
    let id = server.create().await;
    let answer = server.send("HEAD", "/keys", "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST, PUT")));
    assert_eq!(server.store.stats().await.unwrap().free, 1);
    let answer = server.send("HEAD", &format!("/keys/{id}"), "").await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("75")));
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_allowed() {
    let server = Server::default().await;
    let id = server.create().await;
    for (path, methods, allowed) in [
        ("/keys".to_owned(), "DELETE PATCH OPTIONS TRACE FOO", "GET, POST, PUT"),
        (format!("/keys/{id}"), "POST PATCH OPTIONS FOO", "GET, HEAD, PUT, DELETE"),
        (format!("/keepalive/{id}"), "GET HEAD POST DELETE PATCH OPTIONS", "PUT"),
        ("/keys/x".to_owned(), "POST", "GET, HEAD, PUT, DELETE"),
        ("/keepalive".to_owned(), "GET HEAD POST DELETE", "PUT"),
        ("/stats".to_owned(), "POST PUT DELETE", "GET, HEAD"),
    ] {
        for method in methods.split(' ') {
            let answer = server.send(method, &path, "").await;
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
            match method {
                "HEAD" => assert_eq!(answer.status, 405),
                _ => assert_problem(&answer, 405, "method-not-allowed"),
            }
        }
    }
    assert_eq!(server.store.stats().await.unwrap().free, 1);
}

#[tokio::test]
async fn a_parameter_that_a_path_does_not_know_is_refused_with_the_nearest_one() {
    let server = Server::default().await;
    let id = server.create().await;
    for (method, path, detail) in [
        ("GET", "/keys?leese=5s", "There is no parameter \"leese\" here; did you mean lease?"),
        (
            "GET",
            "/keys?lease=5s&Wait=1s",
            "There is no parameter \"Wait\" here; did you mean wait?",
        ),
        (
            "GET",
            "/keys?x=1",
            "There is no parameter \"x\" here; use count, holder, label, lease, wait.",
        ),
        ("GET", "/keys?l%65es=1", "There is no parameter \"lees\" here; did you mean lease?"),
        ("POST", "/keys?count=3", "There is no parameter \"count\" here; this path has none."),
        (
            "PUT",
            "/keys/ID?cooldwon=1s",
            "There is no parameter \"cooldwon\" here; did you mean cooldown?",
        ),
        ("PUT", "/keys/ID/lease?wait=1s", "There is no parameter \"wait\" here; use lease."),
        ("GET", "/keys/ID?lease=1s", "There is no parameter \"lease\" here; this path has none."),
        ("DELETE", "/keys/ID?x", "There is no parameter \"x\" here; this path has none."),
        ("PUT", "/keepalive/ID?x=1", "There is no parameter \"x\" here; this path has none."),
        ("GET", "/stats?x=1", "There is no parameter \"x\" here; this path has none."),
    ] {
        let answer = server.send(method, &path.replace("ID", &id), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
        assert_eq!(answer.json()["detail"], detail, "{method} {path}");
    }
    let stats = server.store.stats().await.unwrap();
    assert_eq!((stats.keys, stats.free), (1, 1), "nothing has happened");
    for path in ["/healthz?x=1", "/dashboard?x=1", "/keys?lease=5s&wait=1s"] {
        assert_eq!(server.send("GET", path, "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_root_leads_to_the_dashboard() {
    let server = Server::default().await;
    let answer = server.send("GET", "/", "").await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("dashboard")));
}

#[tokio::test]
async fn other_paths_are_unknown() {
    let server = Server::default().await;
    for path in ["/key", "/keepalives", "/stats/", "/keys/a/b", "/KEYS", "//keys"] {
        assert_problem(&server.send("GET", path, "").await, 404, "no-such-path");
    }
    assert_eq!(server.send("POST", "/keys?", "").await.status, 201);
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let server = Server::default().await;
    let id = server.create().await;
    let of_key = format!("/keys/{id}");
    for (method, path, max) in
        [("POST", "/keys", BATCH_BYTES_MAX), ("PUT", &of_key, BODY_BYTES_MAX)]
    {
        let large = format!(r#"{{"count":1{}}}"#, " ".repeat(max));
        let mut client = server.connect().await;
        assert_problem(&client.send(method, path, &large).await, 413, "body-too-large");
        let mut client = server.connect().await;
        let head = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write(&format!("{method} {path} {head}")).await;
        client.write(&format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len())).await;
        assert_problem(&client.read(method).await, 413, "body-too-large");
    }
    let just = format!(r#"{{"count":1{}}}"#, " ".repeat(BATCH_BYTES_MAX - 11));
    assert_eq!(just.len(), BATCH_BYTES_MAX);
    assert_eq!(server.send("POST", "/keys", &just).await.status, 201);
    assert_eq!(server.store.stats().await.unwrap().keys, 2);
}
