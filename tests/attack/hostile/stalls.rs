//! Clients that stall: in the head, in the body, and when they should take answers.
//!
//! All stall at the same time, since each waits for a timeout of the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::siege::Siege;
use super::statuses;
use crate::client::Client;

/// How long the server waits for a head, for a body, or for a client to take an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// It looks for stalled clients from time to time, so it may wait a quarter longer.
const MOST: Duration = Duration::from_millis(37_500);
/// A connection that is over may be seen to be so this much later, on a busy machine.
const GRACE: Duration = Duration::from_secs(6);
/// How often a client that drips sends a byte.
const DRIP: Duration = Duration::from_millis(400);

const UNKNOWN: &str = "/keys/936da01f-9abd-4d9d-80c7-02af85c822a8";
const HEAD: &str = "GET /keys HTTP/1.1\r\nHost: a\r\n";
const OTHER: &str = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
const CHUNKED: &str = "POST /keys HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const BATCH: &str = "PUT /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n";

/// Sends `first`, then `drops` byte by byte, and then nothing. Returns what comes, and after how long the
/// connection ends.
fn stall(mut stream: TcpStream, first: &str, drops: &[u8]) -> (String, Duration) {
    stream.write_all(first.as_bytes()).unwrap();
    let begin = Instant::now();
    stream.set_read_timeout(Some(DRIP)).unwrap();
    let (mut answer, mut buffer, mut drops) = (Vec::new(), [0; 4096], drops.iter());
    while begin.elapsed() < 3 * TIMEOUT {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if let Some(byte) = drops.next()
                    && stream.write_all(&[*byte]).is_err()
                {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), begin.elapsed())
}

/// A head that goes on and on.
fn endless() -> Vec<u8> {
    [b"X: ", &[b'x'; 1000][..]].concat()
}

/// What is sent, what follows byte by byte, and which statuses are answered before the end.
fn stalls() -> Vec<(String, Vec<u8>, &'static [&'static str])> {
    let fields = "X: y\r\n".repeat(50);
    let long = "x".repeat(9000);
    let heads = [
        "G",
        "GET /keys HT",
        HEAD,
        "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Le",
        "\r\n\r\n",
        "PRI * HT",
    ];
    let mut all: Vec<(String, Vec<u8>, &'static [&'static str])> =
        heads.iter().map(|head| ((*head).to_owned(), vec![], &[][..])).collect();
    all.push((format!("{HEAD}\r"), vec![], &[]));
    all.push((format!("{HEAD}X: {long}"), vec![], &[]));
    all.push((format!("{HEAD}{fields}"), vec![], &[]));
    // One byte after the other, on both paths.
    all.push((HEAD.to_owned(), endless(), &[]));
    all.push((format!("{HEAD}{fields}"), endless(), &[]));
    all.push((format!("{HEAD}X: {long}"), endless(), &[]));
    all.push((String::new(), [b"\r\n".repeat(20), HEAD.into(), endless()].concat(), &[]));
    // Behind requests that are whole, on both paths.
    all.push((format!("{HEAD}\r\n{HEAD}"), vec![], &["200"]));
    all.push((format!("{HEAD}\r\n{HEAD}"), endless(), &["200"]));
    all.push((format!("{OTHER}{HEAD}"), vec![], &["404"]));
    all.push((format!("{OTHER}{HEAD}"), endless(), &["404"]));
    // Bodies.
    for (first, drops) in [
        (POST.to_owned(), vec![]),
        (format!("{POST}{{\"co"), vec![]),
        (BATCH.to_owned(), vec![]),
        (format!("{BATCH}{long}"), vec![b' '; 1000]),
        (POST.replace("11", "1000"), vec![b' '; 900]),
        (CHUNKED.to_owned(), vec![]),
        (format!("{CHUNKED}5\r\nab"), vec![]),
        (CHUNKED.to_owned(), b"1\r\n \r\n".repeat(100)),
        (format!("{CHUNKED}0\r\n"), vec![]),
    ] {
        all.push((first, drops, &["408"]));
    }
    all.push((
        POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
        vec![],
        &["100", "408"],
    ));
    all
}

/// Sends requests and reads no answers. Returns how long it takes the server to close the connection once
/// it takes no more requests.
fn send_only(mut stream: TcpStream, request: &str, takes: bool) -> Duration {
    let requests = request.repeat(1000);
    stream.set_write_timeout(Some(DRIP)).unwrap();
    let mut stuck = Instant::now();
    loop {
        match stream.write(requests.as_bytes()) {
            Ok(_) => stuck = Instant::now(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if takes {
                    // A trickle is no better.
                    let _ = stream.read(&mut [0]);
                }
            }
            Err(_) => return stuck.elapsed(),
        }
        assert!(stuck.elapsed() < 3 * TIMEOUT, "it is still served: {request}");
    }
}

#[test]
fn stalled_clients_are_disconnected_while_honest_ones_are_served() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("stalls", |server| {
        let address = server.address;
        let mut threads = Vec::new();
        for (first, drops, expected) in stalls() {
            threads.push(thread::spawn(move || {
                let (answer, after) = stall(Client::to(address).stream, &first, &drops);
                let report = format!("after {after:?} {answer:?} to {first:?}");
                assert_eq!(statuses(&answer), expected, "{report}");
                assert!(TIMEOUT <= after && after < MOST + GRACE, "{report}");
            }));
        }
        // A body that is announced as too long is refused before it comes.
        threads.push(thread::spawn(move || {
            let first = BATCH.replace("4000000", "99999999");
            let (answer, after) = stall(Client::to(address).stream, &first, &[]);
            assert_eq!(statuses(&answer), ["413"]);
            assert!(after < TIMEOUT, "after {after:?}");
        }));
        for path in ["/keys/x", UNKNOWN, "/stats", "/openapi.json"] {
            for takes in [false, true] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                threads.push(thread::spawn(move || {
                    let after = send_only(Client::to(address).stream, &request, takes);
                    assert!(after < MOST + GRACE, "{path} after {after:?}");
                }));
            }
        }
        let begin = Instant::now();
        let failures: Vec<_> = threads.into_iter().filter_map(|one| one.join().err()).collect();
        assert!(failures.is_empty(), "{} of the stalls failed", failures.len());
        assert!(begin.elapsed() >= TIMEOUT, "the stalls ended too early");
    });
    siege.end();
}
