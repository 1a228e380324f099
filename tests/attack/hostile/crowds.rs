//! Very many connections: idle ones, more than there may be, and more than there are files for.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::honest::Terms;
use super::siege::Siege;
use crate::client::Client;
use crate::server::Server;

const IDLE: usize = 10_000;
/// Longer than the server lets anything take.
const PATIENCE: Duration = Duration::from_secs(100);
const STATS: &str = "GET /stats HTTP/1.1\r\n\r\n";

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
fn ten_thousand_idle_connections_take_little_and_hinder_nobody() {
    allow_files(IDLE as u64 + 1000);
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("silent from the start", |server| {
        let idle: Vec<_> = (0..IDLE).map(|_| server.connect()).collect();
        // The last of them are still in the queue.
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
                _ => client.stream.write_all(super::http2::HELLO).unwrap(),
            }
        }
        let each = server.resident_bytes().saturating_sub(before) / IDLE as u64;
        println!("{each} bytes a connection");
        assert!(each < 64 * 1024, "{each} bytes a connection");
        idle
    });
    siege.end();
}

#[test]
fn connections_past_the_limit_wait_and_are_served_when_others_have_left() {
    const MOST: usize = 200;
    let server = Server::start(&["--max-connections", "200", "--key-ttl", "1h"]);
    let terms = Terms { has_no_more_connections: true, ..Terms::default() };
    let siege = Siege::of(server, terms);
    siege.attack("more connections than there may be", |server| {
        let mut clients: Vec<_> = (0..3 * MOST).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.stream.write_all(STATS.as_bytes()).unwrap();
        }
        // Those within are served, and all who come after them as soon as they leave. With the honest,
        // the last are not too many.
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
fn running_out_of_files_ends_nothing() {
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

/// Far more at once than the queue of those who are to be accepted holds, and each goes at once.
#[test]
fn a_storm_of_connections_passes() {
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
