//! Pools with names: the same API for each, on both paths.

use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Options, StoreExt};

use crate::api::{assert_json, assert_problem};
use crate::client::{Client, Server};
use crate::paths::{SLOW, bytes};

pub(crate) async fn put(server: &Server, pool: &str, settings: &str) {
    let answer = server.send("PUT", &format!("/pools/{pool}"), settings).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn a_pool_is_created_changed_shown_and_deleted() {
    let server = Server::default().await;
    let mut client = server.connect().await;
    let settings = |pool: &str, key_ttl: &str, lease_ttl: &str, max_keys: u64| {
        format!(
            r#"{{"pool":"{pool}","settings":{{"keyTtl":"{key_ttl}","leaseTtl":"{lease_ttl}","maxLease":"1m","maxCooldown":"1h","maxWait":"1m","lapseCooldown":"0s","maxKeys":{max_keys}}}}}"#
        )
    };
    let created = client.send("PUT", "/pools/openai", r#"{"keyTtl":"never"}"#).await;
    assert_json(&created, 201, &settings("openai", "never", "1m", 10_000_000));
    let changed = client.send("PUT", "/pools/openai", r#"{"leaseTtl":"30s","maxKeys":2.5}"#).await;
    assert_problem(&changed, 422, "invalid-body");
    let changed = client.send("PUT", "/pools/openai", r#"{"leaseTtl":"30s","maxKeys":2}"#).await;
    // What is left out is not as it was before, but as the server has it.
    assert_json(&changed, 200, &settings("openai", "5m", "30s", 2));
    assert_json(
        &client.send("PUT", "/pools/a", "").await,
        201,
        &settings("a", "5m", "1m", 10_000_000),
    );
    assert_json(&client.send("DELETE", "/pools/a", "").await, 200, "{}");
    assert_eq!(client.send("POST", "/pools/openai/keys", r#"{"count":2}"#).await.status, 201);
    let full = client.send("POST", "/pools/openai/keys", "").await;
    assert_problem(&full, 503, "pool-full");
    assert_problem(
        &client.send("POST", "/pools/openai/keys", r#"{"count":3}"#).await,
        422,
        "larger-than-pool",
    );
    assert_eq!(client.send("GET", "/pools/openai/keys", "").await.status, 200);
    let shown = client.send("GET", "/pools/openai", "").await;
    assert_eq!((shown.status, shown.header("cache-control")), (200, Some("no-store")));
    let shown = shown.json();
    assert_eq!(shown["settings"]["maxKeys"], 2);
    assert_eq!((&shown["stats"]["free"], &shown["stats"]["blocked"]), (&1.into(), &1.into()));
    let stats = client.send("GET", "/pools/openai/stats", "").await.json();
    assert_eq!(stats, shown["stats"]);
    assert_eq!(client.send("GET", "/stats", "").await.json()["keys"], 0);
    let kept = client.send("DELETE", "/pools/openai", "").await;
    assert_problem(&kept, 409, "pool-not-empty");
    assert_json(&client.send("DELETE", "/pools/openai?keys=delete", "").await, 200, "{}");
    assert_problem(&client.send("DELETE", "/pools/openai", "").await, 404, "no-such-pool");
    assert_problem(&client.send("GET", "/pools/openai", "").await, 404, "no-such-pool");
    assert_problem(&client.send("DELETE", "/pools/default", "").await, 409, "default-pool");
    // The default pool can be changed like any other.
    let changed = client.send("PUT", "/pools/default", r#"{"leaseTtl":"5s"}"#).await;
    assert_json(&changed, 200, &settings("default", "5m", "5s", 10_000_000));
    server.create().await;
    client.send("GET", "/keys", "").await;
    server.clock.advance_ms(4999);
    assert_eq!(client.send("GET", "/keys", "").await.status, 404);
    server.clock.advance_ms(1);
    assert_eq!(client.send("GET", "/pools/default/keys", "").await.status, 200);
}

#[tokio::test]
async fn pools_are_listed_a_page_at_a_time() {
    let server = Server::default().await;
    for pool in ["c", "a", "e"] {
        put(&server, pool, "").await;
    }
    let mut client = server.connect().await;
    let mut page = async |query: &str| {
        let answer = client.send("GET", &format!("/pools{query}"), "").await;
        assert_eq!(answer.status, 200, "{query}");
        let list = answer.json();
        let pools = list["pools"].as_array().unwrap().iter();
        let names: Vec<_> = pools.map(|pool| pool["pool"].as_str().unwrap().to_owned()).collect();
        (names, list["cursor"].as_str().map(str::to_owned))
    };
    let all = ["a", "c", "default", "e"].map(str::to_owned);
    assert_eq!(page("").await, (all.to_vec(), None));
    assert_eq!(page("?limit=2").await, (all[..2].to_vec(), Some("c".to_owned())));
    assert_eq!(page("?limit=2&cursor=c").await, (all[2..].to_vec(), None));
    assert_eq!(page("?limit=2&cursor=e").await, (vec![], None));
    // A cursor outlives its pool.
    server.send("DELETE", "/pools/c", "").await;
    assert_eq!(page("?limit=1&cursor=c").await, (vec![all[2].clone()], Some(all[2].clone())));
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?cursor=", "?cursor=A", "?page=2"] {
        let answer = server.send("GET", &format!("/pools{query}"), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_pool_is_told() {
    let options = Options { pools_max: 2, ..Options::default() };
    let server = Server::start(options, ServeOptions::default()).await;
    put(&server, "p", "").await;
    let mut client = server.connect().await;
    for name in ["P", ".p", "-p", "p%20", "p!", &"p".repeat(64)] {
        let answer = client.send("PUT", &format!("/pools/{name}"), "").await;
        assert_problem(&answer, 400, "malformed-pool-name");
        for path in ["", "/keys"] {
            let answer = client.send("GET", &format!("/pools/{name}{path}"), "").await;
            assert_problem(&answer, 404, "no-such-pool");
        }
    }
    // A name is never decoded.
    for name in ["%70", "p%2Fkeys", "p%ff", "%ff"] {
        for (method, path, kind) in [
            ("GET", "", "no-such-pool"),
            ("GET", "/keys", "no-such-pool"),
            ("POST", "/keys", "no-such-pool"),
            ("GET", "/stats", "no-such-pool"),
            ("GET", "/inventory", "no-such-pool"),
            ("DELETE", "?keys=delete", "no-such-pool"),
        ] {
            let answer = client.send(method, &format!("/pools/{name}{path}"), "").await;
            assert_problem(&answer, 404, kind);
        }
        let put = client.send("PUT", &format!("/pools/{name}"), "").await;
        assert_problem(&put, 400, "malformed-pool-name");
    }
    for (body, status, kind) in [
        ("x", 400, "malformed-body"),
        ("[]", 422, "invalid-body"),
        (r#"{"ttl":"1s"}"#, 422, "invalid-body"),
        (r#"{"keyTtl":null}"#, 422, "invalid-body"),
        (r#"{"keyTtl":"soon"}"#, 422, "invalid-settings"),
        (r#"{"maxKeys":0}"#, 422, "invalid-settings"),
        (r#"{"leaseTtl":"2s","maxLease":"1s"}"#, 422, "invalid-settings"),
    ] {
        assert_problem(&client.send("PUT", "/pools/p", body).await, status, kind);
    }
    assert_eq!(client.send("GET", "/pools/p", "").await.json()["settings"]["leaseTtl"], "1m");
    let many = client.send("PUT", "/pools/q", "").await;
    assert_problem(&many, 503, "too-many-pools");
    assert_eq!(many.header("retry-after"), Some("1"));
    for (method, path) in
        [("PUT", "/pools/p?x=1"), ("DELETE", "/pools/p?keys=x"), ("GET", "/pools/p?x=1")]
    {
        assert_problem(&client.send(method, path, "").await, 400, "invalid-parameter");
    }
    for (method, path, allowed) in [
        ("POST", "/pools/p", "GET, HEAD, PUT, DELETE"),
        ("POST", "/pools", "GET, HEAD"),
        ("HEAD", "/pools/p/keys", "GET, POST, PUT"),
        ("DELETE", "/pools/p/keys", "GET, POST, PUT"),
    ] {
        let answer = client.send(method, path, "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
    }
    for path in ["/pools/", "/pools/p/", "/pools/p/metrics", "/pools/p/pools/p/keys"] {
        assert_problem(&client.send("GET", path, "").await, 404, "no-such-path");
    }
    for path in ["/pools//keys", "/pools//stats", "/pools//inventory", "/pools//keys/x"] {
        assert_problem(&client.send("GET", path, "").await, 404, "no-such-pool");
    }
    assert_eq!(client.send("HEAD", "/pools/p", "").await.status, 200);
}

/// The cycle of a careful client in one pool, on one path. The texts of the answers.
async fn cycle(pool: &str, path: &str) -> Vec<String> {
    let server = Server::default().await;
    put(&server, "own", "").await;
    let mut client = server.connect().await;
    let mut send = async |method: &str, target: &str, fields: &str| {
        let fields = format!("{fields}{path}");
        client.ask(method, &format!("{pool}{target}"), &fields).await
    };
    let created = send("POST", "/keys", "").await;
    let id = created.json()["keyId"].as_str().unwrap().to_owned();
    let location = format!("{pool}/keys/{id}");
    assert_eq!(created.header("location"), Some(&*location));
    let mut answers = vec![created];
    for (method, target, fields) in [
        ("GET", "/keys?lease=5s&wait=1s", ""),
        ("GET", "/keys", ""),
        ("GET", "/keys/ID", ""),
        ("PUT", "/keys/ID/lease?lease=30s", "If-Match: \"1\"\r\n"),
        ("PUT", "/keys/ID", "If-Match: \"999\"\r\n"),
        ("PUT", "/keepalive/ID", ""),
        ("PUT", "/keys/ID?cooldown=2s", "If-Match: \"1\"\r\n"),
        ("PUT", "/keys/ID", ""),
        ("POST", "/leases", "Idempotency-Key: a\r\n"),
        ("POST", "/leases", "Idempotency-Key: a\r\n"),
        ("GET", "/keys/936da01f-9abd-4d9d-80c7-02af85c822a8", ""),
        ("GET", "/keys?leese=1s", ""),
        ("GET", "/keys?lease=2m", ""),
        ("DELETE", "/keys/ID", ""),
        ("DELETE", "/keys/ID", ""),
    ] {
        answers.push(send(method, &target.replace("ID", &id), fields).await);
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(
        statuses,
        [201, 200, 404, 200, 200, 412, 200, 200, 200, 201, 201, 404, 400, 400, 200, 404]
    );
    assert_eq!(answers[9].header("location"), Some(&*location));
    let many = server.send("POST", &format!("{pool}/keys"), r#"{"count":2}"#).await.json();
    let ids = serde_json::json!({"keyIds": many["keyIds"]}).to_string();
    for target in ["/keys", "/keepalive"] {
        let answer = server.send("PUT", &format!("{pool}{target}"), &ids).await;
        assert_json(&answer, 200, r#"{"missing":[]}"#);
    }
    let other = if pool == "/pools/own" { "" } else { "/pools/own" };
    let answer = server.send("PUT", &format!("{other}/keepalive"), &ids).await;
    assert_eq!(answer.json()["missing"], many["keyIds"]);
    answers.iter().map(|answer| bytes(answer).replace(pool, "").replace(&id, "ID")).collect()
}

#[tokio::test]
async fn each_pool_has_the_same_api_on_both_paths() {
    let default = cycle("", "").await;
    for pool in ["", "/pools/default", "/pools/own"] {
        for path in ["", SLOW] {
            if pool != "/pools/default" {
                assert_eq!(cycle(pool, path).await, default, "{pool} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_pool_is_told_on_both_paths() {
    let server = Server::default().await;
    let mut client = server.connect().await;
    let id = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    for (method, target) in [
        ("GET", "/keys".to_owned()),
        ("GET", "/keys?wait=1s".to_owned()),
        ("POST", "/keys".to_owned()),
        ("POST", "/leases".to_owned()),
        ("GET", format!("/keys/{id}")),
        ("PUT", format!("/keys/{id}")),
        ("DELETE", format!("/keys/{id}")),
        ("PUT", format!("/keys/{id}/lease")),
        ("PUT", format!("/keepalive/{id}")),
        ("GET", "/stats".to_owned()),
    ] {
        for path in ["", SLOW] {
            let answer = client.ask(method, &format!("/pools/none{target}"), path).await;
            assert_problem(&answer, 404, "no-such-pool");
        }
    }
}

/// A connection that has named a pool does not go on with it once it was deleted.
#[tokio::test]
async fn a_pool_that_was_deleted_is_not_remembered() {
    let server = Server::default().await;
    let mut client = server.connect().await;
    let lease = async |client: &mut Client| client.ask("GET", "/pools/p/keys", "").await;
    for _ in 0..2 {
        put(&server, "p", "").await;
        server.send("POST", "/pools/p/keys", "").await;
        assert_eq!(lease(&mut client).await.status, 200);
        assert_json(&lease(&mut client).await, 404, "{}");
        server.send("DELETE", "/pools/p?keys=delete", "").await;
        assert_problem(&lease(&mut client).await, 404, "no-such-pool");
    }
    // One that is deleted with a client that waits.
    put(&server, "p", "").await;
    client.write("GET /pools/p/keys?wait=30s HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let pool =
        server.store.pool(token_orchestrator::store::Store::find_pool(&server.store, "p").unwrap());
    crate::client::until("it waits", async || pool.stats().await.unwrap().waiting == 1).await;
    server.send("DELETE", "/pools/p", "").await;
    assert_problem(&client.read("GET").await, 404, "no-such-pool");
}

#[tokio::test]
async fn each_pool_has_limits_of_its_own() {
    let server = Server::default().await;
    put(&server, "long", r#"{"maxLease":"1h","maxWait":"2m","maxCooldown":"1d"}"#).await;
    for pool in ["", "/pools/long"] {
        for path in ["", SLOW] {
            let mut client = server.connect().await;
            let created = client.ask("POST", &format!("{pool}/keys"), path).await.json();
            let id = created["keyId"].as_str().unwrap().to_owned();
            for target in [
                "/keys?lease=1h".to_owned(),
                format!("/keys/{id}/lease?lease=1h"),
                format!("/keys/{id}?cooldown=1d"),
                "/keys?wait=2m&lease=1s".to_owned(),
            ] {
                let method = if target.starts_with("/keys?") { "GET" } else { "PUT" };
                if target.contains("wait") {
                    client.ask("POST", &format!("{pool}/keys"), "").await;
                }
                let answer = client.ask(method, &format!("{pool}{target}"), path).await;
                let status = if pool.is_empty() { 400 } else { 200 };
                assert_eq!(answer.status, status, "{pool}{target}");
            }
        }
    }
}

#[tokio::test]
async fn keys_may_live_until_they_are_deleted() {
    let server = Server::default().await;
    put(&server, "costly", r#"{"keyTtl":"never"}"#).await;
    for path in ["", SLOW] {
        let mut client = server.connect().await;
        let created = client.ask("POST", "/pools/costly/keys", path).await;
        assert_eq!((created.status, created.header("key-expires-at")), (201, None));
        let id = created.json()["keyId"].as_str().unwrap().to_owned();
        server.clock.advance_ms(365 * 24 * 60 * 60 * 1000);
        for (method, target) in
            [("GET", format!("/keys/{id}")), ("PUT", format!("/keepalive/{id}"))]
        {
            let answer = client.ask(method, &format!("/pools/costly{target}"), path).await;
            assert_eq!((answer.status, answer.header("key-expires-at")), (200, None));
        }
    }
    assert_eq!(
        server.send("POST", "/pools/costly/keys", r#"{"count":2}"#).await.header("key-expires-at"),
        None
    );
    assert_eq!(server.send("GET", "/pools/costly/stats", "").await.json()["keys"], 4);
}

#[tokio::test]
async fn a_key_rests_after_a_lease_that_ran_out() {
    let server = Server::default().await;
    put(&server, "careful", r#"{"leaseTtl":"10s","lapseCooldown":"5s"}"#).await;
    for path in ["", SLOW] {
        let mut client = server.connect().await;
        let created = client.ask("POST", "/pools/careful/keys", path).await.json();
        let key = format!("/pools/careful/keys/{}", created["keyId"].as_str().unwrap());
        let lease = client.ask("GET", "/pools/careful/keys", path).await;
        let tag = lease.header("etag").unwrap().to_owned();
        // One that is given back does not rest.
        client.ask("PUT", &key, &format!("If-Match: {tag}\r\n{path}")).await;
        let lease = client.ask("GET", "/pools/careful/keys", path).await;
        let tag = lease.header("etag").unwrap().to_owned();
        server.clock.advance_ms(10_000);
        let shown = client.ask("GET", &key, path).await;
        assert_eq!(shown.json()["isBlocked"], true);
        assert_eq!(shown.json()["blockedAt"].as_str(), lease.header("lease-expires-at"));
        let stale = client.ask("PUT", &key, &format!("If-Match: {tag}\r\n{path}")).await;
        assert_problem(&stale, 412, "stale-lease");
        server.clock.advance_ms(4999);
        assert_json(&client.ask("GET", "/pools/careful/keys", path).await, 404, "{}");
        server.clock.advance_ms(1);
        assert_eq!(client.ask("GET", "/pools/careful/keys", path).await.status, 200);
        client.ask("DELETE", &key, path).await;
    }
}
