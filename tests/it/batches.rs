//! Many keys by one request, and the counts, over a real socket.

use std::collections::HashSet;

use serde_json::{Value, json};
use token_orchestrator::http::BODY_BYTES_MAX;
use token_orchestrator::store::{Leasing, StoreExt};

use crate::api::{assert_json, assert_problem};
use crate::client::Server;

const LEASE_MS: u64 = 60_000;

/// A server with so many keys, and their ids.
async fn keys(count: usize) -> (Server, Vec<String>) {
    let server = Server::default().await;
    let created = server.send("POST", "/keys", &json!({ "count": count }).to_string()).await;
    let ids = serde_json::from_value(created.json()["keyIds"].clone()).unwrap();
    (server, ids)
}

fn body(ids: &[String]) -> String {
    json!({ "keyIds": ids }).to_string()
}

#[tokio::test]
async fn as_many_are_leased_as_are_there() {
    let (server, ids) = keys(5).await;
    let mut leased = HashSet::new();
    for (count, given) in [(2, 2), (100_000, 3)] {
        let answer = server.send("GET", &format!("/keys?count={count}&lease=30s"), "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("lease-expires-at"), Some("2024-03-01T00:00:29.500Z"));
        let keys = answer.json()["keys"].as_array().unwrap().clone();
        assert_eq!(keys.len(), given);
        for key in keys {
            let id = key["keyId"].as_str().unwrap();
            let shown = server.send("GET", &format!("/keys/{id}"), "").await;
            assert_eq!(shown.header("etag"), key["etag"].as_str());
            assert_eq!(shown.json()["isBlocked"], true);
            assert!(leased.insert(id.to_owned()), "leased twice");
        }
    }
    assert_eq!(leased, ids.into_iter().collect());
    let none = server.send("GET", "/keys?count=2", "").await;
    assert_json(&none, 404, "{}");
    assert_eq!(none.header("retry-after"), Some("30"));
    for count in ["0", "100001", "-1", "x", "", "1&count=2", "1e3"] {
        let answer = server.send("GET", &format!("/keys?count={count}"), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
    server.clock.advance_ms(30_000);
    let one = server.send("GET", "/keys?count=1", "").await;
    assert_eq!(one.json()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn many_are_released_and_the_missing_are_named() {
    let (server, ids) = keys(200).await;
    assert_eq!(server.store.lease_many(Leasing::default(), 200).await.unwrap().len(), 200);
    let mut named = ids[..150].to_vec();
    let missing = ["x\"\\\n", "", "936da01f-9abd-4d9d-80c7-02af85c822a8"].map(str::to_owned);
    named.extend_from_slice(&missing);
    named.push(ids[0].to_uppercase());
    let answer = server.send("PUT", "/keys", &body(&named)).await;
    assert_json(&answer, 200, &json!({ "missing": missing }).to_string());
    let stats = server.store.stats().await.unwrap();
    assert_eq!((stats.free, stats.leased, stats.totals.releases), (150, 50, 150));
    assert_json(&server.send("PUT", "/keys", &body(&[])).await, 200, r#"{"missing":[]}"#);
}

#[tokio::test]
async fn many_are_kept_alive() {
    let (server, ids) = keys(100).await;
    server.clock.advance_ms(299_999);
    let answer = server.send("PUT", "/keepalive", &body(&ids[..99])).await;
    assert_json(&answer, 200, r#"{"missing":[]}"#);
    server.clock.advance_ms(1);
    let answer = server.send("PUT", "/keepalive", &body(&ids)).await;
    assert_json(&answer, 200, &json!({ "missing": [ids[99]] }).to_string());
}

#[tokio::test]
async fn a_hundred_thousand_fit_and_no_more() {
    let (server, ids) = keys(100_000).await;
    assert_json(&server.send("PUT", "/keepalive", &body(&ids)).await, 200, r#"{"missing":[]}"#);
    let strange = vec!["x".to_owned(); 100_001];
    assert_problem(&server.send("PUT", "/keys", &body(&strange)).await, 422, "invalid-body");
    let strange = vec!["x".to_owned(); 100_000];
    let missing = server.send("PUT", "/keys", &body(&strange)).await.json();
    assert_eq!(missing["missing"].as_array().unwrap().len(), 100_000);
    // As large for a pool that the path names.
    let named = server.send("PUT", "/pools/default/keys", &body(&strange)).await.json();
    assert_eq!(named["missing"].as_array().unwrap().len(), 100_000);
    let large = " ".repeat(4 * 1024 * 1024 + 1);
    assert_problem(&server.send("PUT", "/keys", &large).await, 413, "body-too-large");
    let large = " ".repeat(BODY_BYTES_MAX + 1);
    assert_problem(&server.send("POST", "/leases", &large).await, 413, "body-too-large");
}

#[tokio::test]
async fn what_is_not_understood_changes_nothing() {
    let (server, ids) = keys(1).await;
    server.send("GET", "/keys", "").await;
    let id = &ids[0];
    for path in ["/keys", "/keepalive"] {
        for (body, status, kind) in [
            ("", 400, "malformed-body"),
            ("{", 400, "malformed-body"),
            ("{}", 422, "invalid-body"),
            ("[]", 422, "invalid-body"),
            (r#"{"keyIds":null}"#, 422, "invalid-body"),
            (&format!(r#"["{id}"]"#), 422, "invalid-body"),
            (&format!(r#"[["{id}"]]"#), 422, "invalid-body"),
            (&format!(r#"{{"keyIds":["{id}",7]}}"#), 422, "invalid-body"),
            (&format!(r#"{{"keyIds":["{id}"],"count":1}}"#), 422, "invalid-body"),
            (&format!(r#"{{"keyIds":["{id}"]}} x"#), 400, "malformed-body"),
        ] {
            assert_problem(&server.send("PUT", path, body).await, status, kind);
        }
    }
    assert_eq!(server.store.stats().await.unwrap().leased, 1);
}

#[tokio::test]
async fn the_counts_are_told() {
    let (server, ids) = keys(4).await;
    server.send("GET", "/keys", "").await;
    server.send("PUT", &format!("/keys/{}?cooldown=1h", ids[0]), "").await;
    server.send("DELETE", &format!("/keys/{}", ids[0]), "").await;
    server.store.lease_many(Leasing::default(), 3).await.unwrap();
    server.send("PUT", &format!("/keys/{}", ids[1]), "").await;
    server.send("PUT", &format!("/keys/{}?cooldown=1h", ids[2]), "").await;
    let answer = server.send("GET", "/stats", "").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let stats = answer.json();
    for (name, count) in [("keys", 3), ("free", 1), ("blocked", 1), ("cooling", 1), ("waiting", 0)]
    {
        assert_eq!(stats[name], count, "{name} in {stats}");
    }
    let totals = &stats["totals"];
    assert_eq!(
        (&totals["created"], &totals["deleted"], &totals["expired"]),
        (&json!(4), &json!(1), &json!(0))
    );
    let leases =
        ["released", "leaseTimeouts", "leasesLost"].map(|name| totals[name].as_u64().unwrap());
    assert_eq!(leases.iter().sum::<u64>() + 1, totals["leased"].as_u64().unwrap());
    server.clock.advance_ms(LEASE_MS);
    assert_eq!(
        server.send("GET", "/keys?count=9", "").await.json()["keys"].as_array().map(Vec::len),
        Some(2)
    );
    let timeouts = server.send("GET", "/stats", "").await.json()["totals"]["leaseTimeouts"].clone();
    assert_eq!(timeouts, Value::from(1));
}
