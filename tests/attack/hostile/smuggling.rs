//! Requests whose end can be read in two ways: the two paths, and all cuts, must see the same.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use super::siege::Siege;
use super::statuses;
use crate::server::Server;

/// Longer than any timeout of the server.
const PATIENCE: Duration = Duration::from_mins(2);
/// Long enough for the server to read the earlier part alone.
const PAUSE: Duration = Duration::from_millis(3);
const UNKNOWN: &str = "/keys/936da01f-9abd-4d9d-80c7-02af85c822a8";
/// Leads a connection to hyper.
const TO_HYPER: &str = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
/// What follows, to be seen as a request or as a body.
const MARK: &str = "DELETE /keys/mark HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends a request in parts, and returns the answers without the time of day. The first part is answered
/// before the rest is sent.
pub(crate) fn answers(server: &Server, to_hyper: bool, bytes: &[u8], cuts: &[usize]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if to_hyper {
        stream.write_all(TO_HYPER.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
    let mut at = 0;
    for cut in cuts.iter().chain([&bytes.len()]) {
        if stream.write_all(&bytes[at..*cut]).is_err() {
            break;
        }
        at = *cut;
        if at < bytes.len() {
            sleep(PAUSE);
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs");
    }
    let answers = String::from_utf8_lossy(&answers).into_owned();
    let lines = answers.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect()
}

/// Fields that say, or seem to say, how long a request is.
const FIELDS: [&str; 61] = [
    "Content-Length: 0",
    "Content-Length: 00",
    "Content-Length: 4",
    "Content-Length: -1",
    "Content-Length: +0",
    "Content-Length: +4",
    "Content-Length: 0x4",
    "Content-Length: 4,4",
    "Content-Length: 0, 0",
    "Content-Length: 4, 5",
    "Content-Length:",
    "Content-Length: ",
    "Content-Length: 0 ",
    "Content-Length:0",
    "Content-Length:\t0\t",
    "content-length: 0",
    "CONTENT-LENGTH: 4",
    "Content-Length : 0",
    " Content-Length: 4",
    "X: y\r\n Content-Length: 4",
    "X: y\r\n\tz",
    "Content-Length: 18446744073709551615",
    "Content-Length: 18446744073709551616",
    "Content-Length: 99999999999999999999999",
    "Content-Length: 4.0",
    "Content-Length: 4e0",
    "Content-Length: ٤",
    "Content-Length: 0\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: 4",
    "Content-Length: 4\r\nContent-Length: 0",
    "Content-Length: 4\r\nContent-Length: 4",
    "Content_Length: 4",
    "Content-Length\0: 4",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Content-Length: 0\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \"chunked\"",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding:",
    "TE: trailers",
    "Trailer: Content-Length",
    "Expect: 100-continue",
    "Expect: something",
    "Expect:",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Upgrade: websocket\r\nConnection: upgrade",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Keep-Alive, close",
    "Connection: x, content-length",
    "Connection:",
    "Host: a\r\nHost: b",
    "If-Match: \"1\"",
];

/// What may follow a head, and chunks that are none.
const BODIES: [&str; 16] = [
    "",
    "abcd",
    "4\r\nabcd\r\n0\r\n\r\n",
    "4;x=y\r\nabcd\r\n0\r\n\r\n",
    "4;\r\nabcd\r\n0\r\nX: y\r\n\r\n",
    "0\r\n\r\n",
    "0\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "-1\r\nabcd\r\n0\r\n\r\n",
    "+4\r\nabcd\r\n0\r\n\r\n",
    "0x4\r\nabcd\r\n0\r\n\r\n",
    "4 \r\nabcd\r\n0\r\n\r\n",
    "4\nabcd\n0\n\n",
    "4\r\nabcdef\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nabcd\r\n0\r\n\r\n",
    "00000000000000000000004\r\nabcd\r\n0\r\n\r\n",
    "g\r\n\r\n",
];

/// First lines that are unusual, for a request that is hot if it is one at all.
fn first_lines() -> Vec<String> {
    let forms = [
        "GET $ HTTP/1.1",
        "GET $ HTTP/1.0",
        "GET $ HTTP/2.0",
        "GET $ HTTP/1.2",
        "GET $ HTTP/0.9",
        "GET $",
        "GET  $ HTTP/1.1",
        "GET $  HTTP/1.1",
        "GET\t$ HTTP/1.1",
        " GET $ HTTP/1.1",
        "\r\nGET $ HTTP/1.1",
        "\nGET $ HTTP/1.1",
        "\r\n\r\n\r\nGET $ HTTP/1.1",
        "get $ HTTP/1.1",
        "Get $ HTTP/1.1",
        "GETX $ HTTP/1.1",
        "GET http://a$ HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "GET $#x HTTP/1.1",
        "GET $? HTTP/1.1",
        "GET $?x HTTP/1.1",
        "GET /$ HTTP/1.1",
        "GET /.$ HTTP/1.1",
        "GET $/ HTTP/1.1",
        "GET $ HTTP/1.1 ",
        "GET $ http/1.1",
        "GET $ HTTP/1.1x",
        "HEAD $ HTTP/1.1",
        "TRACE $ HTTP/1.1",
        "PUT $ HTTP/1.1",
        "DELETE $ HTTP/1.1",
        "POST $ HTTP/1.1",
    ];
    forms.iter().map(|form| form.replace('$', UNKNOWN)).collect()
}

#[test]
fn both_paths_agree_on_where_a_request_ends() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("lengths that can be read in two ways", |server| {
        let mut kinds = std::collections::HashSet::new();
        for field in FIELDS {
            for body in BODIES {
                for method in ["GET", "PUT"] {
                    let request = format!(
                        "{method} {UNKNOWN} HTTP/1.1\r\n{field}\r\nHost: a\r\n\r\n{body}{MARK}"
                    );
                    let hot = answers(server, false, request.as_bytes(), &[]);
                    let hyper = answers(server, true, request.as_bytes(), &[]);
                    assert_eq!(hot, hyper, "{request:?}");
                    kinds.insert(statuses(&hot).join(" "));
                }
            }
        }
        println!("{} kinds of answers: {kinds:?}", kinds.len());
        // Every kind of answer has occurred.
        for kind in ["404 404", "400", "404 400"] {
            assert!(kinds.contains(kind), "{kind} did not occur");
        }
    });
    siege.attack("odd first lines and ends of lines", |server| {
        for line in first_lines() {
            for end in [
                "\r\n\r\n",
                "\n\n",
                "\r\n\n",
                "\n\r\n",
                "\r\r",
                "\r\n",
                "\r\nX: y\nY: z\r\n\r\n",
                "\r\nX:\r\n\r\n",
                "\r\n: y\r\n\r\n",
                "\r\nX\r\n\r\n",
                "\r\nX: \u{e4}\r\n\r\n",
                "\r\nX: \x01\r\n\r\n",
            ] {
                for host in ["", "\r\nHost: a", "\nHost: a"] {
                    let request = format!("{line}{host}{end}{MARK}");
                    let hot = answers(server, false, request.as_bytes(), &[]);
                    let hyper = answers(server, true, request.as_bytes(), &[]);
                    assert_eq!(hot, hyper, "{request:?}");
                }
            }
        }
    });
    siege.attack("the same in parts", |server| {
        for field in FIELDS {
            let request = format!(
                "PUT {UNKNOWN} HTTP/1.1\r\n{field}\r\nHost: a\r\n\r\n4\r\nabcd\r\n0\r\n\r\n{MARK}"
            );
            let whole = answers(server, false, request.as_bytes(), &[]);
            let head = request.find("\r\n\r\n").unwrap();
            for cuts in [
                vec![1],
                vec![head],
                vec![head + 2],
                vec![head + 4],
                vec![head + 5, head + 8],
                (60..70).collect(),
            ] {
                let parts = answers(server, false, request.as_bytes(), &cuts);
                assert_eq!(statuses(&whole), statuses(&parts), "{request:?} cut at {cuts:?}");
            }
        }
    });
    siege.end();
}

/// HTTP/2 begins with a connection, and not behind a request: there its preface is as malformed on
/// one path as on the other.
#[test]
fn a_connection_does_not_change_to_http2() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("prefaces behind requests", |server| {
        let preface = String::from_utf8(super::http2::PREFACE.to_vec()).unwrap();
        for count in 1..4 {
            let request =
                format!("GET {UNKNOWN} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(count) + &preface;
            for cuts in [vec![], vec![request.len() - preface.len()], vec![request.len() - 20]] {
                for to_hyper in [false, true] {
                    let all = answers(server, to_hyper, request.as_bytes(), &cuts);
                    // The connection is closed, with a refusal or without.
                    let statuses = statuses(&all);
                    let (good, rest) = statuses.split_at(count);
                    assert_eq!(good, vec!["404"; count], "{all:?} cut at {cuts:?}");
                    assert!(rest.is_empty() || rest == ["400"], "{all:?} cut at {cuts:?}");
                    assert!(!all.contains('\0'), "frames of HTTP/2: {all:?}");
                }
            }
        }
    });
    siege.end();
}

/// A length that is understood ends a request, and any other is refused.
#[test]
fn lengths_that_are_no_numbers_are_refused() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("lengths", |server| {
        for (field, expected) in [
            ("Content-Length: 0", &["404", "404"][..]),
            ("Content-Length: 0\r\nContent-Length: 0", &["404", "404"]),
            ("Content-Length: +0", &["400"]),
            ("Content-Length: -0", &["400"]),
            ("Content-Length: 0\r\nContent-Length: 4", &["400"]),
            ("Content-Length:", &["400"]),
            ("Content-Length : 0", &["400"]),
            ("Content-Length: 18446744073709551616", &["400"]),
            ("Transfer-Encoding: gzip", &["400"]),
            ("X: y\r\n z", &["400"]),
        ] {
            let request = format!("GET {UNKNOWN} HTTP/1.1\r\n{field}\r\nHost: a\r\n\r\n{MARK}");
            let answers = answers(server, false, request.as_bytes(), &[]);
            assert_eq!(statuses(&answers), expected, "{field:?}: {answers}");
        }
    });
    siege.end();
}
