//! Clients that hang up, threads that panic and stops while answers wait for a commit.

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Memory, Options, StoreExt};
use tokio::time::timeout;

use super::{Log, SLOW, get, request, server, wait_for};
use crate::client::{Client, Server, clock, until};
use crate::fakes::{CURSED, Committing, Cursed};

/// Resets the connection, as the system does for a process that was killed.
fn hang_up(client: Client) {
    set_socket_linger(client.into_stream(), Some(Duration::ZERO)).unwrap();
}

async fn is_free(store: &Log, keys: u64) {
    until("all keys are free", async || store.inner.stats().await.unwrap().free == keys).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_commit_takes_no_key_along() {
    let server = server(ServeOptions::default()).await;
    let store = &server.store;
    let ids = store.create(5).await.unwrap().ids;
    for (requests, leases) in [
        (get("/keys"), 1),
        (get("/keys").repeat(5), 5),
        (get("/keys?wait=60s"), 1),
        (request("GET", "/keys", SLOW, ""), 1),
        (request("GET", "/keys?wait=60s", SLOW, ""), 1),
        (get("/keys?count=5"), 5),
        (get("/keys?count=5&wait=60s"), 5),
    ] {
        store.withhold();
        let (before, mut client) = (store.waits(), server.connect().await);
        client.write(&requests).await;
        wait_for(&server, store, before + 1).await;
        assert_eq!(store.inner.stats().await.unwrap().leased, leases);
        hang_up(client);
        // It may get the place of the one that has gone, and must not get its answers.
        let mut next = server.connect().await;
        next.write(&get(&format!("/keys/{}", ids[0]))).await;
        wait_for(&server, store, before + 2).await;
        store.open();
        let answer = next.read("GET").await;
        assert!(answer.status == 200 && !answer.body.contains("keyId"), "{answer:?}");
        is_free(store, 5).await;
    }
}

/// To close is to hang up for a client that has waited for its key.
#[tokio::test]
async fn a_client_that_has_waited_and_closes_before_the_commit_takes_no_key_along() {
    for fields in ["", SLOW] {
        let server = server(ServeOptions::default()).await;
        let (store, mut client) = (&server.store, server.connect().await);
        client.write(&request("GET", "/keys?wait=60s", fields, "")).await;
        let waiting = async || store.inner.stats().await.unwrap().waiting == 1;
        until("it waits for a key", waiting).await;
        store.withhold();
        store.inner.create(1).await.unwrap();
        wait_for(&server, store, 1).await;
        client.end().await;
        store.open();
        is_free(store, 1).await;
    }
}

/// Its answers come nevertheless, and then the end.
#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answers_after_the_commit() {
    let server = server(ServeOptions::default()).await;
    let id = server.create().await;
    for pipeline in [get("/keys").repeat(2), get(&format!("/keys/{id}")) + &get("/stats")] {
        let before = server.store.waits();
        server.store.withhold();
        let mut client = server.connect().await;
        client.write(&pipeline).await;
        client.end().await;
        wait_for(&server, &server.store, before + 1).await;
        assert!(client.has_nothing());
        server.store.open();
        assert_eq!(client.read("GET").await.status, 200);
        client.read("GET").await;
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_commit() {
    let drain_timeout = Duration::from_hours(1);
    let server = server(ServeOptions { drain_timeout, ..ServeOptions::default() }).await;
    let id = server.create().await;
    let store = server.store.clone();
    store.withhold();
    let key = format!("/keys/{id}");
    let mut waiting = server.connect().await;
    waiting.write(&get("/keys?label=a:b&wait=60s")).await;
    let waits_for_key = async || store.inner.stats().await.unwrap().waiting == 1;
    until("it waits for a key", waits_for_key).await;
    let mut clients = Vec::new();
    for requests in [
        get("/keys") + &get(&key),
        request("GET", &key, SLOW, ""),
        // It has a key, so it does not wait for one any more.
        request("GET", "/keys?wait=60s", SLOW, ""),
    ] {
        let (waits, mut client) = (store.waits(), server.connect().await);
        if clients.len() == 2 {
            store.inner.create(1).await.unwrap();
        }
        client.write(&requests).await;
        wait_for(&server, &store, waits + 1).await;
        clients.push(client);
    }
    let (waits, task) = (store.waits(), server.stop());
    // The thread refuses those who wait for a key once it has looked at all its connections.
    until("it stops", async || store.waits() > waits).await;
    assert!(!task.is_finished() && clients.iter().all(Client::has_nothing));
    assert!(waiting.has_nothing());
    store.open();
    assert_eq!(waiting.read("GET").await.status, 503);
    for client in &mut clients {
        assert_eq!(client.read("GET").await.status, 200);
    }
    assert!(clients[0].read("GET").await.body.contains("true"));
    for client in &mut clients {
        assert!(client.is_closed().await);
    }
    timeout(Duration::from_secs(20), task).await.expect("it ends").unwrap();
}

/// A client that has gone meanwhile does not make it forget the lease.
#[tokio::test]
async fn a_stop_waits_for_the_leases_of_clients_that_have_gone() {
    let drain_timeout = Duration::from_hours(1);
    let server = server(ServeOptions { drain_timeout, ..ServeOptions::default() }).await;
    server.create().await;
    let store = server.store.clone();
    store.withhold();
    let mut client = server.connect().await;
    client.write(&get("/keys")).await;
    wait_for(&server, &store, 1).await;
    hang_up(client);
    let mut task = server.stop();
    let too_early = timeout(Duration::from_millis(50), &mut task).await;
    assert!(too_early.is_err(), "it ends before the commit");
    store.open();
    timeout(Duration::from_secs(20), task).await.expect("it ends").unwrap();
    is_free(&store, 1).await;
}

/// While the server drains, each answer says that it is the last. The connection is closed when it has left, whatever
/// the client sends meanwhile.
#[tokio::test]
async fn a_last_answer_leaves_before_its_connection_is_closed() {
    let drain_delay = Duration::from_hours(1);
    let server = server(ServeOptions { drain_delay, ..ServeOptions::default() }).await;
    let (id, address, store) = (server.create().await, server.address, server.store.clone());
    let task = server.stop();
    while Client::to(address).await.send("GET", "/readyz", "").await.status != 503 {}
    store.withhold();
    let mut client = Client::to(address).await;
    client.write(&get(&format!("/keys/{id}"))).await;
    until("the answer waits", async || store.asked() == 1).await;
    client.write(&get("/keys")).await;
    assert_eq!(Client::to(address).await.send("GET", "/healthz", "").await.status, 200);
    assert!(client.has_nothing());
    store.open();
    let answer = client.read("GET").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    task.abort();
}

/// Answers that are not durable within the drain timeout are given up, and so are their leases.
#[tokio::test]
async fn a_stop_gives_up_answers_without_a_commit() {
    let serve = ServeOptions { drain_timeout: Duration::from_millis(20), ..Default::default() };
    let server = server(serve).await;
    let store = server.store.clone();
    store.create(2).await.unwrap();
    store.withhold();
    let mut clients = [server.connect().await, server.connect().await];
    for (client, fields) in clients.iter_mut().zip(["", SLOW]) {
        client.write(&request("GET", "/keys", fields, "")).await;
    }
    wait_for(&server, &store, 2).await;
    timeout(Duration::from_secs(20), server.stop()).await.expect("it ends").unwrap();
    for client in &mut clients {
        assert!(client.is_closed().await);
    }
    is_free(&store, 2).await;
}

/// Connections that are lost with their thread take no key along.
#[tokio::test]
async fn a_panic_takes_no_parked_lease_along() {
    let clock = clock();
    let store = Committing::new(Memory::new(Options::default(), clock.clone()));
    let server = Server::over(Cursed(store.clone()), clock, ServeOptions::default()).await;
    store.create(1).await.unwrap();
    store.withhold();
    let mut client = server.connect().await;
    client.write(&get("/keys")).await;
    wait_for(&server, &store, 1).await;
    let mut cursed = server.connect().await;
    cursed.write(&get(&format!("/keys/{CURSED}"))).await;
    assert!(cursed.is_closed().await && client.is_closed().await);
    is_free(&store, 1).await;
    store.open();
    assert_eq!(server.send("GET", "/keys", "").await.status, 200);
}
