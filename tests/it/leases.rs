//! `POST /leases`: a lease that may be asked for again, on both paths.

use token_orchestrator::http::Role;
use token_orchestrator::store::StoreExt;

use crate::access::{File, guarded};
use crate::api::{assert_json, assert_problem};
use crate::client::{Answer, Server, until};

/// Leads a request to the router.
const SLOW: &str = "Connection: x\r\n";

/// The head without what differs from moment to moment.
fn shape(answer: &Answer) -> String {
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    format!("{} {names:?} {}", answer.status, answer.body)
}

#[tokio::test]
async fn a_lease_may_be_asked_for_again() {
    for path in ["", SLOW] {
        let server = Server::default().await;
        let mut client = server.connect().await;
        let mut lease = async |target: &str, key: &str| {
            client.ask("POST", target, &format!("Idempotency-Key: {key}\r\n{path}")).await
        };
        let refused = lease("/leases", "\"a\"").await;
        assert_json(&refused, 404, "{}");
        let ids = [server.create().await, server.create().await];
        let first = lease("/leases?lease=5s", "\"a\"").await;
        assert_eq!(first.status, 201);
        let id = first.json()["keyId"].as_str().unwrap().to_owned();
        assert!(ids.contains(&id));
        assert_eq!(first.header("location"), Some(&*format!("/keys/{id}")));
        assert!(first.header("etag").is_some() && first.header("lease-expires-at").is_some());
        let again = lease("/leases?lease=5s", "\"a\"").await;
        assert_eq!((shape(&again), again.header("etag")), (shape(&first), first.header("etag")));
        assert_eq!(again.header("lease-expires-at"), first.header("lease-expires-at"));
        let changed = lease("/leases?lease=6s", "\"a\"").await;
        assert_problem(&changed, 422, "idempotency-key-reused");
        assert_problem(
            &lease("/leases?lease=5s&wait=1s", "\"a\"").await,
            422,
            "idempotency-key-reused",
        );
        let other = lease("/leases", "b c").await;
        assert_ne!(other.json()["keyId"], first.json()["keyId"]);
        for key in ["", "ä", &"x".repeat(256), "a\r\nIdempotency-Key: a"] {
            assert_problem(&lease("/leases", key).await, 400, "malformed-idempotency-key");
        }
        let mut plain = server.connect().await;
        let exhausted = plain.ask("POST", "/leases", path).await;
        assert_json(&exhausted, 404, "{}");
        let unknown = plain.ask("POST", "/leases?leese=1s", path).await;
        assert_problem(&unknown, 400, "invalid-parameter");
        for (body, status, kind) in [
            ("{\"count\":3}", 422, "invalid-body"),
            ("[]", 422, "invalid-body"),
            ("x", 400, "malformed-body"),
        ] {
            assert_problem(&plain.send("POST", "/leases", body).await, status, kind);
        }
        assert_json(&plain.send("POST", "/leases", "{}").await, 404, "{}");
        let twice = plain.ask("POST", "/leases?wait=1s&wait=2s", path).await;
        assert_problem(&twice, 400, "invalid-parameter");
        assert!(twice.body.contains("wait is given twice; give it once."), "{twice:?}");
        let get = plain.ask("GET", "/leases", path).await;
        assert_problem(&get, 405, "method-not-allowed");
        assert_eq!(get.header("allow"), Some("POST, DELETE"));
        server.clock.advance_ms(5000);
        let next = lease("/leases?lease=5s", "\"a\"").await;
        assert_eq!(next.status, 201);
        assert_ne!(next.header("etag"), first.header("etag"));
    }
}

#[tokio::test]
async fn a_retry_may_take_the_other_path() {
    let server = Server::default().await;
    server.create().await;
    let mut client = server.connect().await;
    let fields = "Idempotency-Key: 1\r\n";
    let first = client.ask("POST", "/leases?wait=1s", fields).await;
    let again = client.ask("POST", "/leases?wait=1s", &format!("{fields}{SLOW}")).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(again.head.replace(SLOW, ""), first.head);
    assert_eq!(again.body, first.body);
}

#[tokio::test]
async fn a_request_that_waits_is_not_begun_twice() {
    for path in ["", SLOW] {
        let server = Server::default().await;
        let target = "/leases?wait=10s";
        let fields = format!("Idempotency-Key: 1\r\n{path}");
        let mut waiter = server.connect().await;
        waiter.write(&format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        let waits = async || server.connect().await.ask("POST", target, &fields).await;
        until("it waits", async || server.store.stats().await.unwrap().waiting == 1).await;
        let retry = waits().await;
        assert_problem(&retry, 409, "request-in-progress");
        assert_eq!(retry.header("retry-after"), Some("1"));
        server.create().await;
        let answer = waiter.read("POST").await;
        assert_eq!(answer.status, 201);
        assert_eq!(waits().await.body, answer.body);
    }
}

#[tokio::test]
async fn many_keys_may_be_asked_for_again() {
    let server = Server::default().await;
    server.send("POST", "/keys", "{\"count\":10}").await;
    let mut client = server.connect().await;
    let first = client.ask("POST", "/leases?count=4", "Idempotency-Key: 1\r\n").await;
    let again = client.ask("POST", "/leases?count=4", "Idempotency-Key: 1\r\n").await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(again.body, first.body);
    assert_eq!(first.json()["keys"].as_array().unwrap().len(), 4);
    let other = client.ask("POST", "/leases?count=5", "Idempotency-Key: 1\r\n").await;
    assert_problem(&other, 422, "idempotency-key-reused");
    assert_eq!(client.ask("POST", "/leases?count=4", "").await.status, 201);
}

/// Nobody gets the lease of another by guessing what that one calls it.
#[tokio::test]
async fn each_token_has_request_keys_of_its_own() {
    let file = File::new("request-keys", &[Role::Client, Role::Admin]);
    let (server, _) = guarded(&file).await;
    StoreExt::create(&server.store, 2).await.unwrap();
    let mut bodies = Vec::new();
    for (token, path) in [("client", ""), ("admin", ""), ("client", SLOW), ("admin", SLOW)] {
        let fields = format!("Authorization: Bearer {token}\r\nIdempotency-Key: 1\r\n{path}");
        let answer = server.connect().await.ask("POST", "/leases", &fields).await;
        assert_eq!(answer.status, 201);
        bodies.push(answer.body);
    }
    assert_ne!(bodies[0], bodies[1]);
    assert_eq!(bodies[..2], bodies[2..]);
}
