//! Meaningless bytes, alone and behind valid requests.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::siege::Siege;
use super::{bytes, random, statuses};
use crate::server::Server;

/// Longer than any timeout of the server.
const PATIENCE: Duration = Duration::from_mins(2);
const CONNECTIONS: usize = 6000;

/// Sends bytes, and returns everything that comes back until the end.
fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused while it is sent.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs");
    }
    answers
}

/// Bytes of some kind: all, those of text, pieces of requests.
fn some(random: &mut SmallRng) -> Vec<u8> {
    const PIECES: [&[u8]; 14] = [
        b"GET ",
        b"PUT ",
        b"/keys",
        b"/",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b": ",
        b"Content-Length: ",
        b"0",
        b"\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"Transfer-Encoding: chunked",
        b"\xff",
    ];
    let length = random.random_range(1..=300);
    match random.random_range(0..4) {
        0 => bytes(random, length),
        1 => bytes(random, length).iter().map(|byte| byte % 96 + 32).collect(),
        2 => [super::http2::PREFACE, &bytes(random, length)].concat(),
        _ => (0..length % 30)
            .flat_map(|_| PIECES[random.random_range(0..PIECES.len())])
            .copied()
            .collect(),
    }
}

#[test]
fn random_bytes_do_not_affect_honest_clients() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let mut random = random();
    siege.attack("random bytes", |server| {
        for _ in 0..CONNECTIONS {
            let bytes = some(&mut random);
            let answers = exchange(server, &bytes);
            // No answer may be an error of the server.
            let text = String::from_utf8_lossy(&answers);
            assert!(
                !text.contains("HTTP/1.1 5"),
                "{text} to {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    });
    siege.end();
}

#[test]
fn garbage_behind_requests_is_refused_after_they_are_answered() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let mut random = random();
    let hot = "GET /keys/x HTTP/1.1\r\nHost: a\r\n\r\n";
    let id = "GET /keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\n\r\n";
    let other = "PUT /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    siege.attack("garbage behind requests", |server| {
        for _ in 0..1000 {
            let count = random.random_range(0..20);
            let good: String =
                (0..count).map(|_| [hot, id, other][random.random_range(0..3)]).collect();
            // No method begins with it.
            let length = random.random_range(0..100);
            let garbage = [b"\x01", &bytes(&mut random, length)[..]].concat();
            let answers = exchange(server, &[good.as_bytes(), &garbage].concat());
            let answers = String::from_utf8(answers).unwrap();
            let expected = [vec!["404"; count], vec!["400"]].concat();
            assert_eq!(statuses(&answers), expected, "{good} {garbage:?}");
        }
    });
    siege.end();
}
