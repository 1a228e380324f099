//! The list of the keys of a pool.

use crate::api::assert_problem;
use crate::client::{Client, Server};
use crate::pools::put;

/// Walks through the list to its end. The keys, and the number of pages.
async fn inventory(client: &mut Client, query: &str) -> (Vec<serde_json::Value>, usize) {
    let (mut keys, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let target = format!("/pools/p/inventory?{query}{cursor}");
        let answer = client.send("GET", &target, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        keys.extend(page["keys"].as_array().unwrap().iter().cloned());
        pages += 1;
        match page["cursor"].as_str() {
            Some(text) => cursor = format!("&cursor={text}"),
            None => return (keys, pages),
        }
    }
}

#[tokio::test]
async fn the_keys_of_a_pool_are_listed() {
    let server = Server::default().await;
    put(&server, "p", r#"{"keyTtl":"never","leaseTtl":"60s"}"#).await;
    let mut client = server.connect().await;
    assert_eq!(inventory(&mut client, "").await, (vec![], 1));
    let created = client.send("POST", "/pools/p/keys", r#"{"count":2000}"#).await.json();
    let mut ids: Vec<_> = created["keyIds"].as_array().unwrap().clone();
    for _ in 0..3 {
        client.send("GET", "/pools/p/keys", "").await;
    }
    let leased = client.send("GET", "/pools/p/keys", "").await.json();
    let id = leased["keyId"].as_str().unwrap();
    client.send("PUT", &format!("/pools/p/keys/{id}?cooldown=1h"), "").await;
    let (keys, pages) = inventory(&mut client, "limit=300").await;
    assert!(pages >= 7, "{pages}");
    let mut listed: Vec<_> = keys.iter().map(|key| key["keyId"].clone()).collect();
    listed.sort_by_key(ToString::to_string);
    ids.sort_by_key(ToString::to_string);
    assert_eq!(listed, ids);
    for (state, count, leases) in [("free", 1996, 0), ("blocked", 3, 1), ("cooling", 1, 1)] {
        let (keys, _) = inventory(&mut client, &format!("state={state}")).await;
        assert_eq!(keys.len(), count, "{state}");
        for key in &keys {
            assert_eq!((&key["state"], &key["leases"]), (&state.into(), &leases.into()));
            assert_eq!(key["keyExpiresAt"], serde_json::Value::Null);
            assert_eq!(key["blockedAt"].is_string(), state != "free");
            assert_eq!(key["leaseExpiresAt"].is_string(), state != "free");
            assert!(key["createdAt"].is_string());
        }
    }
    // Few of many are found in few pages.
    let (keys, pages) = inventory(&mut client, "state=cooling&limit=1").await;
    assert!(keys.len() == 1 && pages <= 3, "{pages}");
    let shown = client.send("GET", &format!("/pools/p/keys/{id}"), "").await;
    let (cooling, _) = inventory(&mut client, "state=cooling").await;
    assert_eq!(cooling[0]["blockedAt"], shown.json()["blockedAt"]);
    assert_eq!(cooling[0]["leaseExpiresAt"].as_str(), shown.header("lease-expires-at"));
    for query in ["state=x", "limit=0", "cursor=!", "cursor=AAAAAAAAAAAAAAAAAAAAAAAA", "x=1"] {
        let answer = client.send("GET", &format!("/pools/p/inventory?{query}"), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
    let none = client.send("GET", "/pools/q/inventory", "").await;
    assert_problem(&none, 404, "no-such-pool");
    let post = client.send("POST", "/pools/p/inventory", "").await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
}
