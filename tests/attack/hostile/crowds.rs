//! Very many connections: idle ones, more than there may be, and more than there are files for.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::honest::Terms;
use super::siege::{MEMORY_LEFT, Siege};
use crate::client::Client;
use crate::server::Server;

const IDLE: usize = 10_000;
/// Longer than any timeout of the server.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(20);
/// What a client that rests may need, in bytes.
const RESTING_BYTES_MAX: usize = 2048;
/// What a client that waits may need, with its connection, in bytes.
const WAITING_BYTES_MAX: u64 = 28 * 1024;
const STATS: &str = "GET /stats HTTP/1.1\r\nHost: a\r\n\r\n";

/// Lets this process, and the servers that it starts, have so many files open.
fn allow_files(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= files, "the system allows {most} open files, and this test needs {files}");
    let current = limit.current.map(|current| current.max(files));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

fn is_served(client: &mut Client) {
    assert_eq!(client.send("GET", "/keys/x", "").unwrap().status, 404);
}

/// Waits until the server has so many files open.
fn await_files(server: &Server, files: usize) {
    let begin = Instant::now();
    while server.files() < files {
        assert!(begin.elapsed() < PATIENCE, "{} files of {files}", server.files());
    }
}

#[test]
fn ten_thousand_idle_connections_take_little_memory() {
    allow_files(IDLE as u64 + 1000);
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("silent from the start", |server| {
        let idle: Vec<_> = (0..IDLE).map(|_| server.connect()).collect();
        // The last of them may still be in the accept queue.
        await_files(server, IDLE);
        idle
    });
    siege.attack("idle after a request", |server| {
        let before = server.resident_bytes();
        let mut idle: Vec<_> = (0..IDLE).map(|_| server.connect()).collect();
        for (number, client) in idle.iter_mut().enumerate() {
            match number % 3 {
                0 => is_served(client),
                // On hyper's path, over HTTP/1 and HTTP/2.
                1 => assert_eq!(client.send("GET", "/stats", "").unwrap().status, 200),
                _ => client.stream.write_all(super::http2::PREFACE).unwrap(),
            }
        }
        let each = server.resident_bytes().saturating_sub(before) / IDLE as u64;
        println!("{each} bytes a connection");
        assert!(each < 64 * 1024, "{each} bytes a connection");
        idle
    });
    siege.end();
}

/// Waits until the server needs no more than `most` bytes. It has nothing else to do: what comes back only
/// with the next request does not come back.
fn await_memory(server: &Server, most: u64, what: &str) {
    let begin = Instant::now();
    while server.resident_bytes() > most {
        let resident_bytes = server.resident_bytes();
        assert!(begin.elapsed() < PATIENCE, "{what}: {resident_bytes} bytes of at most {most}");
        sleep(PAUSE);
    }
    println!("{what}: {} kB of {} resident", server.resident_bytes() / 1024, most / 1024);
}

#[test]
fn memory_comes_back_when_clients_rest_and_when_they_have_gone() {
    const CROWD: usize = 5000;
    allow_files(CROWD as u64 + 1000);
    let server = Server::start(&["--max-waiters", "5000"]);
    let crowd = |request: &str| {
        let mut clients: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.stream.write_all(request.as_bytes()).unwrap();
        }
        clients
    };
    // Threads have stacks, and tables have grown.
    assert_eq!(server.connect().send("GET", "/stats", "").unwrap().status, 200);
    let before = server.resident_bytes();
    for round in 0..3 {
        let mut resting = crowd(STATS);
        for client in &mut resting {
            assert_eq!(client.read().unwrap().status, 200);
        }
        let most = before + (CROWD * RESTING_BYTES_MAX) as u64;
        await_memory(&server, most, &format!("round {round}, at rest"));
        resting.iter_mut().for_each(is_served);
        drop(resting);

        let waiting = crowd("GET /keys?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n");
        let begin = Instant::now();
        while server.connect().stats().number("waiting") < CROWD as u64 {
            assert!(begin.elapsed() < PATIENCE, "too few wait");
        }
        let each = server.resident_bytes().saturating_sub(before) / CROWD as u64;
        println!("round {round}, waiting: {each} bytes each");
        assert!(each < WAITING_BYTES_MAX, "{each} bytes each");
        drop(waiting);
        await_memory(&server, before + MEMORY_LEFT, &format!("round {round}, all gone"));
    }
}

#[test]
fn connections_past_the_limit_are_served_as_soon_as_earlier_ones_close() {
    const MOST: usize = 200;
    let server = Server::start(&["--max-connections", "200", "--key-ttl", "1h"]);
    let terms = Terms { has_no_more_connections: true, ..Terms::default() };
    let siege = Siege::of(server, terms);
    siege.attack("more connections than there may be", |server| {
        let mut clients: Vec<_> = (0..3 * MOST).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.stream.write_all(STATS.as_bytes()).unwrap();
        }
        // Connections within the limit are served, and the rest as soon as those close. Together with the
        // honest clients, the last ones are within the limit.
        for mut client in clients.drain(..2 * MOST + 10) {
            assert_eq!(client.read().unwrap().status, 200);
            assert!(server.files() < MOST + 100, "{} files", server.files());
        }
        for client in &mut clients {
            assert_eq!(client.read().unwrap().status, 200);
        }
        clients
    });
    siege.end();
}

#[test]
fn a_server_that_runs_out_of_files_keeps_serving() {
    const FILES: usize = 64;
    let mut shell = Command::new("sh");
    let start = format!("ulimit -n {FILES}; exec \"$0\" \"$@\"");
    shell.args(["-c", &start, env!("CARGO_BIN_EXE_token-orchestrator")]);
    let server = Server::start_with(shell, &["--key-ttl", "1h"]);
    let terms = Terms { has_no_more_connections: true, ..Terms::default() };
    let siege = Siege::of(server, terms);
    for _ in 0..3 {
        siege.attack("more connections than files", |server| {
            let mut clients: Vec<_> = (0..4 * FILES).map(|_| server.connect()).collect();
            is_served(&mut clients[0]);
            // It has as many files as it may have, and tries to accept more.
            await_files(server, FILES);
            for mut client in clients.drain(..2 * FILES) {
                is_served(&mut client);
            }
            clients
        });
        // It has recovered.
        is_served(&mut siege.server.connect());
    }
    siege.end();
}

/// Far more connections than the accept queue can take, and each is closed at once.
#[test]
fn a_storm_of_connections_does_no_harm() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("connections that come and go", |server| {
        for number in 0..10_000 {
            let mut stream = TcpStream::connect(server.address).unwrap();
            if number % 2 == 0 {
                stream.write_all(STATS.as_bytes()).unwrap();
            }
        }
    });
    siege.end();
}
