//! The threads of the hot path: many connections at once, clients that do not listen, and stores
//! that are slow or broken.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use rustix::net::sockopt::set_tcp_cork;
use token_orchestrator::engine::Stats;
use token_orchestrator::error::Error;
use token_orchestrator::http::{self, ServeOptions};
use token_orchestrator::key::{Fence, KeyId, KeyInfo, Lease};
use token_orchestrator::store::{
    Created, Leasing, Memory, Options, Release, Renewal, Store, Vitals,
};
use token_orchestrator::time::{SystemClock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::client::{Client, Server};

/// A store whose answers take a while, and which panics when it is asked to show a certain key.
struct Odd<const MAY_ASK_AGAIN: bool> {
    store: Memory<SystemClock>,
    begun: AtomicUsize,
    /// Keep-alives wait for it.
    gate: Notify,
}

const CURSED: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

impl<const MAY_ASK_AGAIN: bool> Store for Odd<MAY_ASK_AGAIN> {
    const MAY_ASK_AGAIN: bool = MAY_ASK_AGAIN;

    async fn create(&self, count: usize) -> Result<Created, Error> {
        self.store.create(count).await
    }
    async fn lease(&self, leasing: Leasing) -> Result<Lease, Error> {
        self.begun.fetch_add(1, SeqCst);
        yield_now().await;
        self.store.lease(leasing).await
    }
    async fn lease_many(&self, leasing: Leasing, count: usize) -> Result<Vec<Lease>, Error> {
        self.store.lease_many(leasing, count).await
    }
    async fn renew(&self, id: &KeyId, renewal: Renewal<'_>) -> Result<Lease, Error> {
        self.store.renew(id, renewal).await
    }
    async fn release(&self, id: &KeyId, release: Release<'_>) -> Result<(), Error> {
        self.store.release(id, release).await
    }
    async fn keep_alive(&self, id: &KeyId) -> Result<Timestamp, Error> {
        self.gate.notified().await;
        self.store.keep_alive(id).await
    }
    async fn delete(&self, id: &KeyId, fence: Fence<'_>) -> Result<(), Error> {
        yield_now().await;
        self.store.delete(id, fence).await
    }
    async fn get(&self, id: &KeyId) -> Result<KeyInfo, Error> {
        assert_ne!(id.to_string(), CURSED, "this is to be seen");
        self.store.get(id).await
    }
    async fn next_release_ms(&self) -> Option<u64> {
        self.store.next_release_ms().await
    }
    async fn vitals(&self) -> Vitals {
        self.store.vitals().await
    }
    async fn stats(&self) -> Stats {
        self.store.stats().await
    }
    fn wall(&self, at: Timestamp) -> SystemTime {
        self.store.wall(at)
    }
}

/// A server of an odd store with so many keys.
async fn odd<const MAY_ASK_AGAIN: bool>(
    count: usize,
) -> (Arc<Odd<MAY_ASK_AGAIN>>, std::net::SocketAddr, Vec<KeyId>) {
    let store = Memory::new(Options::default(), SystemClock::new());
    let ids = store.create(count).await.unwrap().ids;
    let store = Arc::new(Odd { store, begun: AtomicUsize::new(0), gate: Notify::new() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = http::serve(listener, Arc::clone(&store), ServeOptions::default(), pending());
    tokio::spawn(async { served.await.unwrap() });
    (store, address, ids)
}

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
            format!("PUT /keepalive/{id} HTTP/1.1\r\n\r\n"),
            format!("DELETE /keys/{id} HTTP/1.1\r\n\r\n"),
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
    let serve = ServeOptions { head_timeout: Duration::from_millis(40), ..Default::default() };
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

/// What a store does not answer at once keeps its order, and holds nobody else up.
#[tokio::test]
async fn late_answers_hold_up_their_own_connection_only() {
    let (store, address, ids) = odd::<false>(3).await;
    let mut late = Client::to(address).await;
    let requests = [
        get(&format!("/keys/{}", ids[0])),
        format!("PUT /keepalive/{} HTTP/1.1\r\n\r\n", ids[0]),
        get("/keys"),
        format!("DELETE /keys/{} HTTP/1.1\r\n\r\n", ids[0]),
    ];
    late.write(&requests.concat()).await;
    let mut other = Client::to(address).await;
    for _ in 0..2 {
        other.write(&get("/keys")).await;
        assert_eq!(other.read("GET").await.status, 200);
    }
    other.write(&get(&format!("/keys/{}", ids[1]))).await;
    assert_eq!(other.read("GET").await.status, 200);
    assert_eq!(store.begun.load(SeqCst), 2, "it did not keep its order");
    late.write(&get("/keys")).await;
    store.gate.notify_one();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(late.read("GET").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 404]);
    // Each lease was asked for once, though none was answered at once.
    assert_eq!(store.begun.load(SeqCst), 4);
    assert_eq!(store.stats().await.totals.leases, 3);
}

/// A panic costs connections, and nothing else.
async fn panics<const MAY_ASK_AGAIN: bool>() {
    let (store, address, ids) = odd::<MAY_ASK_AGAIN>(1).await;
    for _ in 0..3 {
        let mut client = Client::to(address).await;
        client.write(&get(&format!("/keys/{CURSED}"))).await;
        assert!(client.is_closed().await);
        let mut client = Client::to(address).await;
        client.write(&get(&format!("/keys/{}", ids[0]))).await;
        assert_eq!(client.read("GET").await.status, 200);
    }
    assert_eq!(store.stats().await.keys, 1);
}

#[tokio::test]
async fn a_panic_in_a_thread_does_not_end_the_server() {
    panics::<true>().await;
}

#[tokio::test]
async fn a_panic_in_a_late_answer_does_not_end_the_server() {
    panics::<false>().await;
}
