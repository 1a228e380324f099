//! Clients that vanish at any moment: by a close, by a reset, or by closing one half only.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::siege::Siege;
use super::statuses;

/// Longer than any timeout of the server.
const PATIENCE: Duration = Duration::from_mins(2);

/// A dialogue on both paths.
fn script(id: &str) -> String {
    [
        &format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("PUT /keys/{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}"),
        "POST /keys HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"count\":\r\n2\r\n3}\r\n0\r\n\r\n",
        "GET /keys?wait=1ms HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    .concat()
}

/// How many requests of the script are whole in so many bytes of it.
fn whole(script: &str, length: usize, id: &str) -> usize {
    let ends = [
        format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\r\n\r\n{}".to_owned(),
        "0\r\n\r\n".to_owned(),
        "wait=1ms HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    let mut at = 0;
    let reached = |end: &String| {
        at += script[at..].find(end.as_str()).unwrap() + end.len();
        at <= length
    };
    ends.iter().map(reached).filter(|is| *is).count()
}

#[test]
fn clients_may_vanish_at_any_moment() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let answer = siege.server.connect().send("POST", "/keys", "").unwrap();
    let id = answer.body.split('"').nth(3).unwrap().to_owned();
    let script = script(&id);
    let begin = |length: usize| {
        let mut stream = TcpStream::connect(siege.server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&script.as_bytes()[..length]).unwrap();
        stream
    };
    siege.attack("gone, with what was not read", |_| {
        (0..=script.len()).map(begin).for_each(drop);
    });
    siege.attack("gone with a reset", |_| {
        for stream in (0..=script.len()).map(begin) {
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
    siege.attack("gone with a reset amid the answers", |_| {
        for length in script.find("PUT").unwrap()..=script.len() {
            let mut stream = begin(length);
            stream.read_exact(&mut [0; 20]).unwrap();
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
    siege.attack("half gone", |_| {
        for length in 0..=script.len() {
            let mut stream = begin(length);
            stream.shutdown(Shutdown::Write).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answers = Vec::new();
            stream.read_to_end(&mut answers).expect("the end");
            let answers = String::from_utf8(answers).unwrap();
            // What was whole is answered; what was not may be refused.
            let statuses = statuses(&answers);
            let whole = whole(&script, length, &id);
            let (good, rest) = statuses.split_at(whole.min(statuses.len()));
            assert_eq!(good.len(), whole, "{length} bytes: {answers}");
            assert!(good.iter().all(|status| ["200", "201"].contains(status)), "{answers}");
            assert!(rest.is_empty() || rest == ["400"], "{length} bytes: {answers}");
        }
    });
    siege.end();
}
