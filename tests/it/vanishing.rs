//! Clients that hang up while they wait for a key: none whose end had come before the key was free takes it along.

use std::cell::Cell;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::connect_unspec;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::key::Lease;
use token_orchestrator::store::{Leasing, Options, Release, Store, StoreExt};

use tokio::task::yield_now;

use crate::certificates::Files;
use crate::client::{Server, until};

/// So many clients at a time.
const CROWD: u64 = 50;

/// Leases the only key, lets a crowd wait for it that `begin` connects, lets it hang up by `end`, and releases the
/// key at once. It must be free then, as its lease would last for a minute.
async fn none_takes_a_key<T>(
    server: &Server,
    rounds: usize,
    begin: impl AsyncFn() -> T,
    end: impl Fn(&T),
) {
    for round in 0..rounds {
        let lease = leased(server, &format!("the key is free in round {round}")).await;
        let mut crowd = Vec::new();
        while server.store.stats().await.unwrap().waiting < CROWD {
            crowd.push(begin().await);
            let so_many = crowd.len() as u64;
            until("it waits", async || server.store.stats().await.unwrap().waiting >= so_many)
                .await;
        }
        crowd.iter().for_each(&end);
        server.store.release(&lease.id, Release::default()).await.unwrap();
    }
    let lease = leased(server, "the key is free in the end").await;
    server.store.release(&lease.id, Release::default()).await.unwrap();
}

/// Leases the key as soon as it is free and nobody waits.
async fn leased(server: &Server, what: &str) -> Lease {
    let mut lease = server.store.lease(Leasing::default()).await;
    let begin = Instant::now();
    while lease.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        yield_now().await;
        lease = server.store.lease(Leasing::default()).await;
    }
    lease.unwrap().lease
}

/// Resets a connection at once. To drop it would not do: a process that another test has just forked may still have
/// the socket.
fn reset(stream: &TcpStream) {
    connect_unspec(stream).unwrap();
}

/// Ends a connection at once, as above.
fn close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Both).unwrap();
}

async fn one_key(serve: ServeOptions) -> Server {
    let server = Server::start(Options::default(), serve).await;
    server.store.create(1).await.unwrap();
    server
}

/// It leaves the queue, but a key that is free needs no queue.
#[tokio::test]
async fn a_client_that_has_closed_its_half_gets_a_key_that_is_free() {
    half_closed(&one_key(ServeOptions::default()).await).await;
}

/// Clients that have closed their half ask for the only key.
pub(crate) async fn half_closed<S: Store + Clone>(server: &Server<S>) {
    for fields in ["", "Connection: x\r\n"] {
        for target in ["/keys", "/keys?wait=60s", "/keys?wait=60s&count=1"] {
            let mut client = server.connect().await;
            client.write(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
            client.end().await;
            let answer = client.read("GET").await;
            assert_eq!(answer.status, 200, "{target} {fields}");
            let id = answer.body.split('"').nth(if target.contains("count") { 5 } else { 3 });
            let released = server.send("PUT", &format!("/keys/{}", id.unwrap()), "").await;
            assert_eq!(released.status, 200);
        }
    }
}

fn begin(server: &Server, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let request = format!("GET /keys?wait=60s HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[tokio::test]
async fn no_client_that_was_reset_takes_a_key_from_the_hot_path() {
    let server = one_key(ServeOptions::default()).await;
    none_takes_a_key(&server, 40, async || begin(&server, ""), reset).await;
    none_takes_a_key(&server, 40, async || begin(&server, ""), close).await;
}

#[tokio::test]
async fn no_client_that_was_reset_takes_a_key_from_the_router() {
    let server = one_key(ServeOptions::default()).await;
    let slow = "Connection: x\r\n";
    none_takes_a_key(&server, 30, async || begin(&server, slow), reset).await;
    none_takes_a_key(&server, 30, async || begin(&server, slow), close).await;
}

#[tokio::test]
async fn no_client_that_was_reset_takes_a_key_over_tls() {
    let files = Files::new();
    let tls = Some(crate::tls::open(&files).unwrap());
    let server = one_key(ServeOptions { tls, ..ServeOptions::default() }).await;
    let begin = async || {
        let mut client = files.connect(server.address).await;
        client.write("GET /keys?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.into_stream().into_inner().0.into_std().unwrap()
    };
    none_takes_a_key(&server, 20, begin, reset).await;
}

/// Frames of HTTP/2, so that the end of a stream has arrived when it is written.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The frame that begins and ends a GET.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    // GET, http, a literal `:path` and a literal `:authority` (RFC 7541).
    let head = [&[0x82, 0x86, 0x04, length][..], path.as_bytes(), &[0x01, 1], b"a"].concat();
    let (headers, end_stream_and_head) = (1, 0x5);
    frame(headers, end_stream_and_head, stream, &head)
}

#[tokio::test]
async fn no_stream_that_was_cancelled_takes_a_key() {
    let server = one_key(ServeOptions::default()).await;
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    let next = Cell::new(1);
    let begin = async || {
        let id = next.replace(next.get() + 2);
        (&stream).write_all(&get(id, "/keys?wait=60s")).unwrap();
        id
    };
    let cancel = |id: &u32| {
        (&stream).write_all(&frame(3, 0, *id, &8_u32.to_be_bytes())).unwrap();
    };
    none_takes_a_key(&server, 40, begin, cancel).await;
}
