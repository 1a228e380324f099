//! The API over a store whose answers come late, as if it were remote.

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Memory, Options, Store, StoreExt};
use token_orchestrator::time::ManualClock;
use tokio::time::timeout;

use crate::client::{Answer, Client, Server, clock, until};
use crate::fakes::Delayed;
use crate::vanishing::half_closed;

/// No key has this id.
const UNKNOWN: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";
/// A field that leaves a request to hyper and the router, and changes nothing.
const SLOW: &str = "Connection: x\r\n";

/// A server whose store answers at once.
async fn prompt() -> Server {
    at_once(clock()).await
}

/// The same with this clock.
pub(crate) async fn at_once(clock: ManualClock) -> Server {
    let store = Memory::new(Options::default(), clock.clone());
    tokio::spawn(store.clone().sweep());
    Server::over(store, clock, ServeOptions::default()).await
}

/// A server whose store answers late.
async fn late(serve: ServeOptions) -> Server<Delayed<Memory<ManualClock>>> {
    let clock = clock();
    let store = Memory::new(Options::default(), clock.clone());
    tokio::spawn(store.clone().sweep());
    Server::over(Delayed::new(store), clock, serve).await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Head and body as they came, but for the time of day and random ids.
fn bytes(answer: &Answer, id: &str) -> String {
    let lines = answer.head.split("\r\n").filter(|line| !line.starts_with("date: "));
    let text = format!("{}\r\n\r\n{}", lines.collect::<Vec<_>>().join("\r\n"), answer.body);
    text.replace(id, "ID")
}

/// Each route in turn, with one key; what it answers.
pub(crate) async fn script<S: Store + Clone>(server: &Server<S>, fields: &str) -> Vec<String> {
    let id = server.create().await;
    let mut client = server.connect().await;
    let keys = format!(r#"{{"keyIds":["{id}","{UNKNOWN}"]}}"#);
    let mut answers = Vec::new();
    for (method, path, body) in [
        ("GET", "/keys/ID", ""),
        ("GET", "/keys", ""),
        ("GET", "/keys", ""),
        ("GET", "/keys?count=3", ""),
        ("GET", "/keys/ID", ""),
        ("HEAD", "/keys/ID", ""),
        ("PUT", "/keys/ID/lease?lease=5s", ""),
        ("PUT", "/keepalive/ID", ""),
        ("PUT", "/keys/ID?cooldown=2s", ""),
        ("PUT", "/keys/ID/lease", ""),
        ("GET", "/keys", ""),
        ("PUT", "/keys/ID", ""),
        ("GET", "/keys?count=3", ""),
        ("PUT", "/keys", &keys),
        ("GET", "/keys?lease=7s&wait=1s", ""),
        ("PUT", "/keepalive", &keys),
        ("PUT", "/keys/ID", ""),
        ("PUT", "/keys", "{}"),
        ("POST", "/keys", r#"{"count":0}"#),
        ("GET", "/stats", ""),
        ("GET", "/readyz", ""),
        ("DELETE", "/keys/ID", ""),
        ("GET", "/keys/ID", ""),
        ("PUT", "/keys/ID", ""),
        ("PUT", "/keepalive/ID", ""),
        ("DELETE", "/keys/ID", ""),
        ("GET", "/keys", ""),
    ] {
        let path = path.replace("ID", &id);
        let length = body.len();
        let fields = if length == 0 {
            fields.to_owned()
        } else {
            format!("{fields}Content-Length: {length}\r\n")
        };
        client.write(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")).await;
        let answer = timeout(Duration::from_secs(20), client.read(method)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method} {path} is not answered"));
        answers.push(format!("{method} {path}: {}", bytes(&answer, &id)).replace(&id, "ID"));
    }
    answers
}

#[tokio::test]
async fn late_answers_are_those_of_a_store_that_answers_at_once() {
    let (prompt, late) = (prompt().await, late(ServeOptions::default()).await);
    for fields in ["", SLOW] {
        let answers = script(&prompt, fields).await;
        assert_eq!(script(&late, fields).await, answers);
    }
    let answer = late.send("POST", "/keys", r#"{"count":1000}"#).await;
    assert_eq!((answer.status, answer.json()["keyIds"].as_array().unwrap().len()), (201, 1000));
    assert_eq!(late.store.stats().await.unwrap().keys, 1000);
    assert_eq!(late.store.pending(), 0);
}

/// Its answer is only late: it does not wait for the key.
#[tokio::test]
async fn a_client_that_has_closed_its_half_gets_a_key_that_is_free() {
    let late = late(ServeOptions::default()).await;
    late.store.create(1).await.unwrap();
    half_closed(&late).await;
}

/// All operations of a pipeline are begun before the first one is completed.
#[tokio::test]
async fn a_pipeline_waits_for_its_operations_together() {
    const REQUESTS: usize = 64;
    let (prompt, late) = (prompt().await, late(ServeOptions::default()).await);
    assert_eq!(pipelines(&late, REQUESTS).await, pipelines(&prompt, REQUESTS).await);
    assert_eq!((late.store.begun(), late.store.pending_max()), (2 * REQUESTS + 2, REQUESTS));
}

/// Sends pipelines of so many requests, two on one connection; what they are answered.
async fn pipelines<S: Store + Clone>(server: &Server<S>, requests: usize) -> Vec<String> {
    let mut client = server.connect().await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let id = server.create().await;
        let kinds = [
            ("GET", "/keys".to_owned()),
            ("GET", format!("/keys/{id}")),
            ("GET", "/keys".to_owned()),
            ("PUT", format!("/keepalive/{id}")),
            ("GET", format!("/keys/{UNKNOWN}")),
            ("PUT", format!("/keys/{id}")),
            ("PUT", format!("/keys/{UNKNOWN}")),
        ];
        let mut asked: Vec<_> = kinds.iter().cycle().take(requests - 1).collect();
        let delete = ("DELETE", format!("/keys/{id}"));
        asked.push(&delete);
        let text = |(method, path): &&(&str, String)| {
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
        };
        client.write(&asked.iter().map(text).collect::<String>()).await;
        for (method, _) in asked {
            answers.push(bytes(&client.read(method).await, &id));
        }
    }
    answers
}

/// Resets the connection, as the system does for a process that was killed.
fn hang_up(client: Client) {
    set_socket_linger(client.into_stream(), Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn a_client_that_hangs_up_gives_its_late_leases_back() {
    let server = late(ServeOptions::default()).await;
    server.store.create(5).await.unwrap();
    // The router may have answered before it learns that the client has gone.
    for (requests, operations, may_resume_first) in [
        (get("/keys"), 1, true),
        (get("/keys").repeat(5), 5, true),
        (get("/keys?lease=1s"), 1, false),
        (get("/keys?count=5"), 5, false),
        (format!("GET /keys HTTP/1.1\r\nHost: a\r\n{SLOW}\r\n"), 1, false),
    ] {
        for resumes_first in [false, may_resume_first] {
            let begun = server.store.begun();
            server.store.suspend();
            let mut client = server.connect().await;
            client.write(&requests).await;
            let has_begun = async || server.store.begun() == begun + operations;
            until("the operations are begun", has_begun).await;
            assert_eq!(server.store.stats().await.unwrap().leased, operations as u64);
            hang_up(client);
            if !resumes_first {
                // The server learns of it while it waits.
                assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
            }
            server.store.resume();
            let is_free = async || server.store.stats().await.unwrap().free == 5;
            until(&format!("{requests} leaves all keys free"), is_free).await;
        }
    }
}

/// The operations of a client that has gone leave the others as they are.
#[tokio::test]
async fn a_client_that_hangs_up_costs_others_nothing() {
    let server = late(ServeOptions::default()).await;
    let id = server.create().await;
    let mut others = Vec::new();
    server.store.suspend();
    let begun = server.store.begun();
    for _ in 0..10 {
        let mut gone = server.connect().await;
        gone.write(&get(&format!("/keys/{id}")).repeat(3)).await;
        let mut other = server.connect().await;
        other.write(&get(&format!("/keys/{id}")).repeat(3)).await;
        others.push((gone, other));
    }
    until("all have begun", async || server.store.begun() == begun + 60).await;
    let mut rest = Vec::new();
    for (gone, other) in others {
        hang_up(gone);
        rest.push(other);
        // It may get the place of the one that has gone.
        let mut new = server.connect().await;
        new.write(&get(&format!("/keys/{id}")).repeat(3)).await;
        rest.push(new);
    }
    until("all have begun", async || server.store.begun() == begun + 90).await;
    server.store.resume();
    for client in &mut rest {
        for _ in 0..3 {
            assert_eq!(client.read("GET").await.status, 200);
        }
        assert_eq!(client.send("GET", &format!("/keys/{id}"), "").await.status, 200);
    }
}

#[tokio::test]
async fn a_stop_waits_for_late_answers() {
    let drain_timeout = Duration::from_hours(1);
    let server = late(ServeOptions { drain_timeout, ..ServeOptions::default() }).await;
    let id = server.create().await;
    let store = server.store.clone();
    let begun = store.begun();
    store.suspend();
    let (mut hot, mut slow) = (server.connect().await, server.connect().await);
    hot.write(&[get("/keys"), get(&format!("/keys/{id}"))].concat()).await;
    slow.write(&format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n{SLOW}\r\n")).await;
    until("all have begun", async || store.begun() == begun + 3).await;
    let task = server.stop();
    tokio::task::yield_now().await;
    store.resume();
    for client in [&mut hot, &mut slow] {
        assert_eq!(client.read("GET").await.status, 200);
    }
    assert!(hot.read("GET").await.body.contains("true"));
    assert!(hot.is_closed().await && slow.is_closed().await);
    timeout(Duration::from_secs(20), task).await.expect("it ends").unwrap();
}

/// Answers that do not come within the drain timeout are given up, and so are their leases.
#[tokio::test]
async fn a_stop_gives_up_answers_that_do_not_come() {
    let serve = ServeOptions { drain_timeout: Duration::from_millis(20), ..Default::default() };
    let server = late(serve).await;
    server.create().await;
    let store = server.store.clone();
    store.suspend();
    let mut client = server.connect().await;
    client.write(&get("/keys")).await;
    until("the lease is on its way", async || store.pending() == 1).await;
    timeout(Duration::from_secs(20), server.stop()).await.expect("it ends").unwrap();
    assert!(client.is_closed().await);
    store.resume();
    until("the key is free", async || store.stats().await.unwrap().free == 1).await;
}
