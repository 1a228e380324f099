//! Large bodies and answers, many at once: they share bounded memory.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::honest::Terms;
use super::http2::Connection;
use super::siege::Siege;
use crate::client::Client;
use crate::server::Server;

const CLIENTS: usize = 300;
/// Longer than any timeout of the server.
const PATIENCE: Duration = Duration::from_mins(2);
/// The most memory that large bodies and answers may take, in bytes: 64 MiB each, half as much again
/// for bodies that grow, and what the allocator and the connections need.
const SHARED_BYTES: u64 = 256 * 1024 * 1024;

/// Tells the thread that looks at the memory when to end, also if the attack fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs something and returns how much memory the server used at most, above what it did before.
fn peak_of(server: &Server, attack: impl FnOnce()) -> u64 {
    let (before, is_over) = (server.resident_bytes(), AtomicBool::new(false));
    thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(SeqCst) {
                peak = peak.max(server.resident_bytes());
                sleep(Duration::from_millis(2));
            }
            peak
        });
        let over = Over(&is_over);
        attack();
        drop(over);
        peak.join().unwrap().saturating_sub(before)
    })
}

/// The largest batch: a hundred thousand unknown ids.
fn batch() -> Arc<[u8]> {
    let ids: Vec<_> =
        (0..100_000).map(|i| format!("\"936da01f-9abd-4d9d-80c7-{i:012}\"")).collect();
    let body = format!("{{\"keyIds\":[{}]}}", ids.join(","));
    let head =
        format!("PUT /keepalive HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    (head + &body).into_bytes().into()
}

/// Sends a batch, and returns the status of the answer. If it is not refused, it names each key of the batch.
fn send(client: &mut Client, batch: &[u8]) -> Option<u16> {
    client.stream.write_all(batch).ok()?;
    let answer = client.read().ok()?;
    if answer.status == 503 {
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.body.contains("/problems/busy"), "{answer:?}");
    } else {
        let entries = batch.windows(9).filter(|part| *part == b"{\"value\":").count();
        let ids = if entries > 0 { entries } else { 100_000 };
        assert!(answer.body.len() > 39 * ids, "{} bytes", answer.body.len());
    }
    Some(answer.status)
}

/// Sends a batch from so many clients at once. Each is answered with the status `done`, or refused; every tenth comes back
/// until it is served.
fn send_from(server: &Server, batch: &Arc<[u8]>, clients: usize, done: u16) {
    let threads = (0..clients).map(|number| {
        let (address, batch) = (server.address, Arc::clone(batch));
        thread::spawn(move || {
            loop {
                let status = send(&mut Client::to(address), &batch);
                assert!(status.is_none_or(|status| [done, 503].contains(&status)), "{status:?}");
                if number % 10 != 0 || status == Some(done) {
                    break;
                }
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn large_batches_share_bounded_memory_and_complete() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let batch = batch();
    siege.attack("batches", |server| {
        let peak = peak_of(server, || {
            send_from(server, &batch, CLIENTS, 200);
        });
        println!("{} MiB at most", peak >> 20);
        assert!(peak < SHARED_BYTES, "{peak} bytes");
    });
    siege.end();
}

/// Imports whose keys take far more memory, once they are read, than their bodies do.
#[test]
fn large_imports_share_bounded_memory_and_complete() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    // The values are few, so that it is not the pool that takes memory.
    let labels: Vec<_> = ('a'..='h').map(|name| format!("\"{name}\":\"1\"")).collect();
    let key = format!("{{\"value\":\"v\",\"labels\":{{{}}}}},", labels.join(","));
    let keys = key.repeat(4 * 1024 * 1024 / key.len() - 1);
    let body = format!("{{\"keys\":[{}]}}", keys.trim_end_matches(','));
    let head = format!("POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let import: Arc<[u8]> = (head + &body).into_bytes().into();
    siege.attack("imports", |server| {
        let peak = peak_of(server, || {
            send_from(server, &import, CLIENTS / 10, 201);
        });
        println!("{} MiB at most", peak >> 20);
        assert!(peak < SHARED_BYTES, "{peak} bytes");
    });
    siege.end();
}

/// Bodies that are announced, or sent all but for the last byte, or in tiny chunks.
#[test]
fn stalled_large_bodies_are_bounded_and_small_ones_are_served() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let batch = batch();
    siege.attack("announced", |server| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        let head = batch.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        for client in &mut clients {
            client.stream.write_all(&batch[..head]).unwrap();
        }
        // A client that has sent no body takes no room from the rest.
        assert_eq!(send(&mut server.connect(), &batch), Some(200));
        clients
    });
    siege.attack("all but the last byte", |server| {
        let stall = || {
            let mut client = server.connect();
            // Some are refused meanwhile.
            let _ = client.stream.write_all(&batch[..batch.len() - 1]);
            client
        };
        let mut clients = Vec::new();
        let peak = peak_of(server, || clients.extend((0..CLIENTS).map(|_| stall())));
        println!("{} MiB at most", peak >> 20);
        assert!(peak < SHARED_BYTES, "{peak} bytes");
        // On a slow machine the first of them are given up before the last have come.
        let begin = Instant::now();
        while send(&mut server.connect(), &batch) != Some(503) {
            assert!(begin.elapsed() < PATIENCE, "the budget is never used up");
            clients.extend((0..20).map(|_| stall()));
        }
        // A body of some bytes needs no room.
        let created = server.connect().send("POST", "/keys", r#"{"count":10}"#).unwrap();
        assert_eq!(created.status, 201);
        clients
    });
    siege.attack("chunks of one byte", |server| {
        let chunks = "1\r\n \r\n".repeat(200_000);
        let peak = peak_of(server, || {
            let threads = (0..20).map(|_| {
                let (mut client, chunks) = (server.connect(), chunks.clone());
                thread::spawn(move || {
                    let head =
                        "PUT /keys HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
                    client.stream.write_all(head.as_bytes()).unwrap();
                    client.stream.write_all(chunks.as_bytes()).unwrap();
                    client.stream.write_all(b"0\r\n\r\n").unwrap();
                    assert_eq!(client.read().unwrap().status, 400);
                })
            });
            threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        });
        println!("{} MiB at most", peak >> 20);
        assert!(peak < 48 * 1024 * 1024, "{peak} bytes for 20 bodies of 200 kB");
    });
    siege.end();
}

/// Large answers that clients do not read: over HTTP/1, and over HTTP/2 without a window.
#[test]
fn large_unread_answers_are_bounded_and_dropped() {
    let server = Server::start(&["--key-ttl", "1h"]);
    for _ in 0..2 {
        let created = server.connect().send("POST", "/keys", r#"{"count":100000}"#).unwrap();
        assert_eq!(created.status, 201);
        let answer = server.connect().send("GET", "/keys?count=100000&lease=1ms", "").unwrap();
        assert_eq!(answer.status, 200);
    }
    let siege = Siege::of(server, Terms { may_be_exhausted: true, ..Terms::default() });
    siege.attack("answers that are not taken", |server| {
        let mut kept = Vec::new();
        let mut without_window = Vec::new();
        let peak = peak_of(server, || {
            for path in ["/keys?count=100000&lease=1ms", "/docs/rapidoc-min.js"] {
                for _ in 0..100 {
                    let mut client = server.connect();
                    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                    client.stream.write_all(request.as_bytes()).unwrap();
                    kept.push(client);
                }
                for _ in 0..3 {
                    let mut connection = Connection::to(server.address);
                    // SETTINGS_INITIAL_WINDOW_SIZE
                    connection.send(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
                    for number in 0..50 {
                        let request = Connection::request("GET", path);
                        connection.send_headers(2 * number + 1, &request, true);
                    }
                    without_window.push(connection);
                }
            }
            // All are answered, or wait for room.
            let mut last = server.connect();
            let answer = last.send("GET", "/keys?count=100000", "").unwrap();
            assert!([200, 404, 503].contains(&answer.status), "{answer:?}");
        });
        println!("{} MiB at most", peak >> 20);
        assert!(peak < SHARED_BYTES, "{peak} bytes");
        // Unread answers time out: new clients are served while the old ones are still connected.
        let begin = Instant::now();
        let mut other = server.connect();
        while other.send("GET", "/keys?count=1000", "").unwrap().status != 200 {
            assert!(begin.elapsed() < PATIENCE, "no room is given back");
        }
        println!("served after {:?}", begin.elapsed());
        (kept, without_window)
    });
    siege.end();
}

/// Lists of keys whose labels are as long as may be, and are escaped.
#[test]
fn unread_lists_of_keys_with_long_labels_are_bounded() {
    let server = Server::start(&["--key-ttl", "1h"]);
    let odd = "\\u0001".repeat(62);
    let keys = (0..1000).map(|key| {
        let labels = (0..8).map(|n| format!("\"{n}{odd}\":\"{n}{odd}\"")).collect::<Vec<_>>();
        format!("{{\"value\":\"{key}\",\"labels\":{{{}}}}}", labels.join(","))
    });
    let keys: Vec<_> = keys.collect();
    for some in keys.chunks(500) {
        let body = format!("{{\"keys\":[{}]}}", some.join(","));
        assert_eq!(server.connect().send("POST", "/keys", &body).unwrap().status, 201);
    }
    let mut kept = Vec::new();
    let peak = peak_of(&server, || {
        for _ in 0..100 {
            let mut client = server.connect();
            let list = "GET /pools/default/inventory?limit=1000 HTTP/1.1\r\nHost: a\r\n\r\n";
            client.stream.write_all(list.as_bytes()).unwrap();
            kept.push(client);
        }
        // All are answered, or wait for room.
        let answer = server.connect().send("GET", "/pools/default/inventory?limit=1000", "");
        assert!([200, 503].contains(&answer.unwrap().status));
    });
    println!("{} MiB at most", peak >> 20);
    assert!(peak < SHARED_BYTES, "{peak} bytes");
}

/// A request reserves memory when it has an answer, not while it waits.
#[test]
fn waiters_reserve_no_memory_for_answers() {
    let server = Server::start(&["--key-ttl", "1h"]);
    let mut waiting: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut waiting {
        let request = "GET /keys?count=100000&wait=60s HTTP/1.1\r\nHost: a\r\n\r\n";
        client.stream.write_all(request.as_bytes()).unwrap();
    }
    let (begin, mut other) = (Instant::now(), server.connect());
    let all = format!("\"waiting\":{CLIENTS}");
    while !other.send("GET", "/stats", "").unwrap().body.contains(&all) {
        assert!(begin.elapsed() < PATIENCE, "not all clients wait");
    }
    let created = other.send("POST", "/keys", r#"{"count":100000}"#).unwrap();
    assert_eq!(created.status, 201);
    for client in &mut waiting {
        let answer = client.read().unwrap();
        let keys = answer.body.matches("keyId").count();
        assert!(answer.status == 200 && (1..=100).contains(&keys), "{keys} keys");
    }
    super::siege::assert_counts(&server);
}
