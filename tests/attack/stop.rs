//! The stop: under load, with requests in flight, with waiters, and the next start.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::checker::check;
use crate::checker::record::History;
use crate::client::Client;
use crate::history::SLACK_NS;
use crate::history::clients::{Scenario, World};
use crate::history::{FEW, MANY, run, seed};
use crate::server::Server;

/// What a test grants beyond the drain timeout on a slow or shared machine.
const SLACK: Duration = Duration::from_secs(10);

/// A request to create keys, all but its body. When this returns it is in flight.
fn begin_creation(server: &Server, length: usize) -> Client {
    let mut client = server.connect();
    let head = format!(
        "POST /keys HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    );
    client.stream.write_all(head.as_bytes()).unwrap();
    let mut expected = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    client.stream.read_exact(&mut expected).unwrap();
    assert_eq!(&expected, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

/// Sends the body, and reads how many keys were created.
fn end_creation(client: &mut Client, body: &str) -> usize {
    client.stream.write_all(body.as_bytes()).unwrap();
    let answer = client.read().unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body.matches('"').count() / 2 - 1
}

/// Waits until a number in `GET /stats` is at least that.
fn await_stat(client: &mut Client, name: &str, least: u64) {
    let give_up = Instant::now() + SLACK;
    while client.stats().number(name) < least {
        assert!(Instant::now() < give_up, "{name} stays below {least}");
    }
}

/// Stops a server while clients race, and checks what they have seen.
fn stop_under_load(scenario: Scenario, options: &[&str]) {
    let seed = seed();
    println!("HISTORY_SEED={seed} {scenario:?}");
    let all = [
        &run::options(&scenario),
        &options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>()[..],
    ]
    .concat();
    let mut server = Server::start(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let world = World::new(vec![server.address], scenario, seed);
    let (mut stopped_ns, mut took) = (0, Duration::ZERO);
    let mut operations = run::race(&world, || {
        while world.is_at_work(10_000) {
            thread::sleep(Duration::from_millis(1));
        }
        world.is_stopping.store(true, Relaxed);
        stopped_ns = world.now_ns();
        let since = Instant::now();
        server.signal("TERM");
        assert!(server.wait().success());
        took = since.elapsed();
    });
    assert!(took < Duration::from_secs(10) + SLACK, "it took {took:?}");
    run::end_lost(&mut operations, world.now_ns());
    let answered = operations.iter().filter(|o| o.ended_ns > stopped_ns && !o.is_lost()).count();
    let lost = operations.iter().filter(|o| o.ended_ns > stopped_ns && o.is_lost()).count();
    println!("it took {took:?}; from then on {answered} were answered, {lost} were lost");
    assert!(answered > 0, "no request was served after the signal");
    let history = History {
        key_ttl_ms: scenario.key_ttl_ms,
        slack_ns: SLACK_NS,
        operations,
        has_labels: scenario.is_own,
    };
    check(&history).unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
}

/// Each time at another moment.
#[test]
fn answers_before_and_during_a_stop_are_true() {
    let endless = u64::MAX;
    for _ in 0..3 {
        stop_under_load(Scenario { operations: endless, ..FEW }, &[]);
        stop_under_load(Scenario { operations: endless, ..MANY }, &[]);
    }
}

/// All this happens while one request keeps the server from its end, so none of it waits for the end.
#[test]
fn a_stop_answers_waiters_and_finishes_requests_in_flight() {
    const WAITERS: u64 = 100;
    let mut server = Server::start(&["--drain-timeout", "1m"]);
    let mut observer = server.connect();
    let large = r#"{"count":100000}"#;
    let (mut small, mut large_one) =
        (begin_creation(&server, 2), begin_creation(&server, large.len()));
    large_one.stream.write_all(&large.as_bytes()[..4]).unwrap();
    let mut waiters: Vec<_> = (0..WAITERS).map(|_| server.connect()).collect();
    for waiter in &mut waiters {
        waiter.stream.write_all(b"GET /keys?wait=60s HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    await_stat(&mut observer, "waiting", WAITERS);
    server.signal("TERM");
    for waiter in &mut waiters {
        let answer = waiter.read().unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert!(waiter.read().is_err(), "the connection is kept");
    }
    // An idle connection is closed, and a new one is refused.
    assert!(observer.read().is_err());
    let refused = TcpStream::connect(server.address).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
    assert_eq!(end_creation(&mut large_one, &large[4..]), 100_000);
    small.stream.write_all(b"{}").unwrap();
    assert_eq!(small.read().unwrap().status, 201);
    for client in [&mut small, &mut large_one] {
        assert!(client.read().is_err(), "the connection is kept");
    }
    assert!(server.wait().success());
}

/// The process is stopped while the requests arrive, so that it reads them just after the signal, or just
/// before.
#[test]
fn requests_sent_before_the_signal_are_answered() {
    for path in ["/keys", "/stats"] {
        let mut server = Server::start(&[]);
        let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.send("GET", "/keys", "").unwrap().status, 404);
        }
        server.signal("STOP");
        for client in &mut clients {
            let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
            client.stream.write_all(request.as_bytes()).unwrap();
        }
        server.signal("TERM");
        server.signal("CONT");
        let answers = clients.iter_mut().map(|client| client.read().is_ok());
        let answered = answers.filter(|is_answered| *is_answered).count();
        assert_eq!(answered, clients.len(), "{path}");
        assert!(server.wait().success());
    }
}

/// Many keys are being created when the signal comes.
#[test]
fn a_large_creation_in_flight_is_finished() {
    let mut server = Server::start(&[]);
    let mut observer = server.connect();
    let mut client = server.connect();
    await_stat(&mut observer, "keys", 0);
    let body = r#"{"count":100000}"#;
    let head =
        format!("POST /keys HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    client.stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    await_stat(&mut observer, "keys", 1);
    server.signal("TERM");
    assert_eq!(end_creation(&mut client, ""), 100_000);
    assert!(server.wait().success());
}

#[test]
fn unfinished_requests_are_cut_off_after_the_drain_timeout() {
    let mut server = Server::start(&["--drain-timeout", "500ms"]);
    let mut client = begin_creation(&server, 2);
    let since = Instant::now();
    server.signal("TERM");
    assert!(client.read().is_err(), "an answer to half a request");
    assert!(server.wait().success());
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(500), "cut off after {took:?}");
    assert!(took < Duration::from_millis(500) + SLACK, "it took {took:?}");
}

/// The first signal counts: a second one does not bring the end forward.
#[test]
fn a_second_signal_does_not_cut_off_requests_in_flight() {
    let mut server = Server::start(&["--drain-timeout", "1m"]);
    let mut client = begin_creation(&server, 2);
    let mut idle = server.connect();
    assert_eq!(idle.send("GET", "/keys", "").unwrap().status, 404);
    for name in ["TERM", "TERM", "INT"] {
        server.signal(name);
        // It has begun to stop.
        assert!(idle.read().is_err());
    }
    client.stream.write_all(b"{}").unwrap();
    assert_eq!(client.read().unwrap().status, 201);
    assert!(server.wait().success());
}

/// Connections that the old process closed still occupy the address when the new one starts.
#[test]
fn the_next_start_serves_at_once_at_the_same_address_and_knows_no_old_key() {
    let mut server = Server::start(&[]);
    let address = server.address;
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    let mut paths = Vec::new();
    for client in &mut clients {
        let answer = client.send("POST", "/keys", "").unwrap();
        paths.push(answer.header("location").unwrap().to_owned());
    }
    server.signal("TERM");
    assert!(server.wait().success());
    drop(server);
    let mut server = Server::start_at(address, &[]);
    let mut client = server.connect();
    for path in &paths {
        assert_eq!(client.send("GET", path, "").unwrap().status, 404);
    }
    assert_eq!(client.send("GET", "/keys", "").unwrap().status, 404);
    assert_eq!(client.send("POST", "/keys", "").unwrap().status, 201);
    assert_eq!(client.send("GET", "/keys", "").unwrap().status, 200);
    assert!(
        clients.iter_mut().all(|client| client.read().is_err()),
        "an old connection is still open"
    );
    server.signal("INT");
    assert!(server.wait().success());
}
