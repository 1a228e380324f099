//! The threads of the hot path: many connections at once, clients that do not listen, and stores
//! that are slow or broken.

use std::time::Duration;

use rustix::net::sockopt::set_tcp_cork;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Memory, Operation, Options, StoreExt};
use token_orchestrator::time::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::{Server, clock, impatient, until};
use crate::fakes::{CURSED, Cursed, Delayed};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// More connections than a thread looks at in one go, with more requests than it does in one go.
#[tokio::test]
async fn answers_go_to_those_who_asked_in_their_order() {
    let server = Server::default().await;
    let ids = server.store.create(300).await.unwrap().ids;
    let mut clients = Vec::new();
    for _ in &ids {
        clients.push(server.connect().await);
    }
    for (client, id) in clients.iter_mut().zip(&ids) {
        let requests = [
            get(&format!("/keys/{id}")),
            get(&format!("/keys/{CURSED}")),
            format!("PUT /keepalive/{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("DELETE /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
            get(&format!("/keys/{id}")),
        ];
        client.write(&requests.concat()).await;
    }
    for client in &mut clients {
        for status in [200, 404, 200, 200, 404] {
            assert_eq!(client.read("GET").await.status, status);
        }
    }
    // Keys that are leased in groups are leased once.
    server.store.create(2000).await.unwrap();
    for client in &mut clients {
        client.write(&get("/keys").repeat(7)).await;
    }
    let mut leased = std::collections::HashSet::new();
    let mut none = 0;
    for client in &mut clients {
        for _ in 0..7 {
            let answer = client.read("GET").await;
            if answer.status == 404 {
                none += 1;
            } else {
                assert!(leased.insert(answer.body), "leased twice");
            }
        }
    }
    assert_eq!((leased.len(), none), (2000, 100));
}

#[tokio::test]
async fn a_client_that_does_not_listen_gets_all_answers_when_it_does() {
    const REQUESTS: usize = 40_000;
    let server = Server::default().await;
    let id = server.create().await;
    let (mut read, mut write) = server.connect().await.into_stream().into_split();
    let requests = get(&format!("/keys/{id}")).repeat(REQUESTS);
    let writer = tokio::spawn(async move {
        write.write_all(requests.as_bytes()).await.unwrap();
        write
    });
    // It writes until nobody takes it any more.
    let mut others = server.connect().await;
    for _ in 0..100 {
        assert_eq!(others.send("GET", &format!("/keys/{id}"), "").await.status, 200);
    }
    let (mut answers, mut buffer) = (0, vec![0; 1 << 16]);
    while answers < REQUESTS {
        let length = read.read(&mut buffer).await.unwrap();
        assert!(length > 0, "the server hung up after {answers} answers");
        answers += buffer[..length].split(|byte| *byte == b'}').count() - 1;
    }
    assert_eq!(answers, REQUESTS);
    drop(writer.await.unwrap());
}

/// The end of the input may come together with the last of it.
#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answers_and_the_end() {
    let server = Server::default().await;
    let id = server.create().await;
    let hot = get(&format!("/keys/{id}"));
    for requests in
        [hot.repeat(3), get("/stats").repeat(3), [&hot[..], &get("/stats"), &hot].concat()]
    {
        for round in 0..200 {
            let mut client = server.connect().await;
            if round % 2 == 0 {
                // It is known to its thread by now.
                assert_eq!(client.send("GET", &format!("/keys/{id}"), "").await.status, 200);
            }
            let mut stream = client.into_stream();
            // In one packet.
            set_tcp_cork(&stream, true).unwrap();
            stream.write_all(requests.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answers = Vec::new();
            let all = stream.read_to_end(&mut answers);
            timeout(Duration::from_secs(10), all).await.expect("it hangs").unwrap();
            let answers = String::from_utf8(answers).unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{requests}");
        }
    }
}

/// A client that goes on asking does not keep the server from its end.
#[tokio::test]
async fn a_flood_does_not_hold_up_the_stop() {
    let drain_timeout = Duration::from_hours(1);
    let serve = ServeOptions { drain_timeout, ..ServeOptions::default() };
    let server = Server::start(Options::default(), serve).await;
    let (mut read, mut write) = server.connect().await.into_stream().into_split();
    let requests = get("/keys").repeat(1000);
    tokio::spawn(async move { while write.write_all(requests.as_bytes()).await.is_ok() {} });
    let mut buffer = vec![0; 1 << 16];
    assert!(read.read(&mut buffer).await.unwrap() > 0);
    tokio::spawn(
        async move { while read.read(&mut buffer).await.is_ok_and(|length| length > 0) {} },
    );
    timeout(Duration::from_secs(20), server.stop()).await.expect("it waits for the flood").unwrap();
}

#[tokio::test]
async fn a_client_that_never_listens_is_given_up() {
    let serve = ServeOptions { timeouts: impatient(40), ..Default::default() };
    let server = Server::start(Options::default(), serve).await;
    let id = server.create().await;
    for path in [&format!("/keys/{id}"), "/openapi.json"] {
        let mut stream = server.connect().await.into_stream();
        let requests = get(path).repeat(1000);
        // Writing fails once the server has closed the connection.
        let given_up = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
        timeout(Duration::from_mins(1), given_up).await.expect("it is still served");
    }
}

/// What a store answers late keeps its order, and holds up nobody else.
#[tokio::test]
async fn late_answers_hold_up_their_own_connection_only() {
    let (store, server) = late(|operation| matches!(operation, Operation::KeepAlive(_))).await;
    let ids = server.store.create(3).await.unwrap().ids;
    store.suspend();
    let mut late = server.connect().await;
    let requests = [
        get(&format!("/keys/{}", ids[0])),
        format!("PUT /keepalive/{} HTTP/1.1\r\nHost: a\r\n\r\n", ids[0]),
        get("/keys"),
        format!("DELETE /keys/{CURSED} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    late.write(&requests.concat()).await;
    assert_eq!(late.read("GET").await.status, 200, "it came before the one that is late");
    let mut other = server.connect().await;
    for _ in 0..2 {
        assert_eq!(other.send("GET", "/keys", "").await.status, 200);
    }
    assert_eq!(other.send("GET", &format!("/keys/{}", ids[1]), "").await.status, 200);
    // What has come meanwhile is answered as well.
    late.write(&get("/keys")).await;
    store.resume();
    for status in [200, 200, 404, 404] {
        assert_eq!(late.read("GET").await.status, status);
    }
    assert_eq!(store.begun(), 1);
    assert_eq!(server.store.stats().await.unwrap().totals.leases, 3);
}

/// A server whose answers to some operations are late.
async fn late(is_late: fn(&Operation<'_>) -> bool) -> (Late, Server<Late>) {
    let clock = clock();
    let store = Memory::new(Options::default(), clock.clone());
    tokio::spawn(store.clone().sweep());
    let store = Delayed::only(store, is_late);
    (store.clone(), Server::over(store, clock, ServeOptions::default()).await)
}

type Late = Delayed<Memory<ManualClock>>;

/// A panic costs the connections of its thread, and nothing else.
#[tokio::test]
async fn a_panic_in_an_operation_does_not_end_the_server() {
    let clock = clock();
    let store = Cursed(Memory::new(Options::default(), clock.clone()));
    let server = Server::over(store, clock, ServeOptions::default()).await;
    let id = server.create().await;
    for _ in 0..3 {
        // By the hot path, and by the router.
        for fields in ["", "Connection: x\r\n"] {
            let mut client = server.connect().await;
            client.write(&format!("GET /keys/{CURSED} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
            assert!(client.is_closed().await);
            assert_eq!(server.send("GET", &format!("/keys/{id}"), "").await.status, 200);
        }
    }
    assert_eq!(server.store.stats().await.unwrap().keys, 1);
}

/// Connections that are lost with their thread take no key along that is leased late.
#[tokio::test]
async fn a_panic_takes_no_late_lease_along() {
    let clock = clock();
    let store = Delayed::new(Memory::new(Options::default(), clock.clone()));
    let serve = ServeOptions::default();
    let server = Server::over(Cursed(store.clone()), clock, serve).await;
    store.create(1).await.unwrap();
    store.suspend();
    let mut client = server.connect().await;
    client.write(&get("/keys")).await;
    until("the lease is on its way", async || store.pending() == 1).await;
    let mut cursed = server.connect().await;
    cursed.write(&get(&format!("/keys/{CURSED}"))).await;
    assert!(cursed.is_closed().await);
    assert!(client.is_closed().await);
    store.resume();
    until("the key is free", async || store.stats().await.unwrap().free == 1).await;
    assert_eq!(server.send("GET", "/keys", "").await.status, 200);
}
