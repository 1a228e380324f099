//! Heads, fields, paths and ids that are as large or as odd as is allowed, and beyond.

use std::io::Write;

use super::http2::{Connection, Field};
use super::siege::Siege;
use crate::client::{Answer, Client};

const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 100;
const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

/// A request whose head has this length, filled by one field or by many.
fn head(path: &str, length: usize, is_one: bool) -> String {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n");
    while !is_one && head.len() + 600 < length {
        head += &["X: ", &"x".repeat(500), "\r\n"].concat();
    }
    let filler = length - head.len() - "X: \r\n\r\n".len();
    head + &format!("X: {}\r\n\r\n", "x".repeat(filler))
}

/// Sends a head as it is, or in two parts.
fn send(client: &mut Client, head: &str, part: usize) -> Answer {
    let (first, second) = head.as_bytes().split_at(part);
    client.stream.write_all(first).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(if part == 0 { 0 } else { 5 }));
    client.stream.write_all(second).unwrap();
    client.read().unwrap()
}

#[test]
fn a_head_has_16_kib_and_a_hundred_fields_on_every_path() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let hot = &format!("/keys/{ID}");
    siege.attack("long heads", |server| {
        for (path, is_one) in [(hot, true), (hot, false), (&"/nothing".to_owned(), true)] {
            for part in [0, 1, 8000, 16_000, HEAD_BYTES_MAX - 1] {
                for (length, status) in [
                    (HEAD_BYTES_MAX - 1, 404),
                    (HEAD_BYTES_MAX, 404),
                    (HEAD_BYTES_MAX + 1, 431),
                    (HEAD_BYTES_MAX + 9000, 431),
                    (10 * HEAD_BYTES_MAX, 431),
                ] {
                    let mut client = server.connect();
                    let head = head(path, length, is_one);
                    let (first, second) = head.as_bytes().split_at(part);
                    client.stream.write_all(first).unwrap();
                    // Far too long a head may be refused, and the connection closed, on the way.
                    let _ = client.stream.write_all(second);
                    let Ok(answer) = client.read() else {
                        assert!(length > 2 * HEAD_BYTES_MAX, "{path}: no answer");
                        continue;
                    };
                    assert_eq!(answer.status, status, "{path}, {length} bytes, cut at {part}");
                    assert_eq!(client.send("GET", hot, "").is_ok(), status == 404);
                }
            }
            // Behind another request, and on hyper's path.
            for first in [hot.as_str(), "/nothing"] {
                for (length, status) in [(HEAD_BYTES_MAX, 404), (HEAD_BYTES_MAX + 1, 431)] {
                    let mut client = server.connect();
                    assert_eq!(client.send("GET", first, "").unwrap().status, 404);
                    assert_eq!(send(&mut client, &head(path, length, is_one), 0).status, status);
                }
            }
        }
    });
    siege.attack("many fields", |server| {
        for path in [hot.as_str(), "/nothing"] {
            for (count, status) in [(FIELDS_MAX, 404), (FIELDS_MAX + 1, 431), (2000, 431)] {
                for part in [0, 30] {
                    let fields = "X: y\r\n".repeat(count - 1);
                    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
                    let answer = send(&mut server.connect(), &head, part);
                    assert_eq!(answer.status, status, "{path}: {count} fields");
                }
            }
        }
    });
    siege.attack("long heads over HTTP/2", |server| {
        // Each field counts 32 bytes more (RFC 9113, section 6.5.2).
        for (length, status) in [(HEAD_BYTES_MAX - 500, "404"), (HEAD_BYTES_MAX + 1, "431")] {
            let mut connection = Connection::to(server.address);
            let filler = "x".repeat(length);
            let mut fields: Vec<Field> = Connection::request("GET", hot);
            fields.push(("x", &filler[..length - 1 - 32 * 5 - 100]));
            if status == "431" {
                fields.push(("y", &filler[..300]));
            }
            connection.send_headers(1, &fields, true);
            assert_eq!(connection.status(1), status, "{length} bytes");
        }
    });
    siege.end();
}

#[test]
fn long_paths_are_refused() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("long paths", |server| {
        for length in [1000, 8000, 16_000, 16_500, 65_534, 65_535, 70_000] {
            for path in ["/keys/", "/keys?wait=", "/keepalive/", "/", "/docs/"] {
                let path = format!("{path}{}", "a".repeat(length));
                let mut client = server.connect();
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                let _ = client.stream.write_all(request.as_bytes());
                // It may be refused before it was sent, and the answer lost with the connection.
                let Ok(answer) = client.read() else {
                    assert!(length > HEAD_BYTES_MAX, "{length} bytes: no answer");
                    continue;
                };
                let expected: &[u16] =
                    if length > HEAD_BYTES_MAX - 50 { &[414, 431] } else { &[400, 404, 405] };
                assert!(expected.contains(&answer.status), "{length} bytes: {answer:?}");
            }
        }
    });
    siege.end();
}

/// Malformed ids: of wrong lengths, and with every character that a path may contain.
fn malformed() -> Vec<String> {
    let mut ids = vec![
        String::new(),
        "..".to_owned(),
        ".".to_owned(),
        "%2e%2e".to_owned(),
        "%00".to_owned(),
        "%ff%fe".to_owned(),
        "%".to_owned(),
        "%zz".to_owned(),
        "\u{fc}".to_owned(),
        "\u{1f511}".repeat(9),
        "x".repeat(36),
        "x".repeat(10_000),
        ID.replace('-', ""),
        format!("{{{ID}}}"),
        format!("urn:uuid:{ID}"),
        format!("{ID} ").replace(' ', "%20"),
        format!("{ID}%00"),
        format!("{ID}%2F"),
        format!("{ID};v=1"),
        format!("{ID}{ID}"),
        ID[1..].to_owned(),
        ID.replacen('9', "%39", 1).replacen("6d", "%36d", 1) + "%",
        ID.replacen('-', "0", 1).replacen("9abd", "9-bd", 1),
        "-".repeat(36),
        "*".to_owned(),
        "null".to_owned(),
        "0".to_owned(),
        "-1".to_owned(),
    ];
    for at in 0..ID.len() {
        for odd in ["g", "_", "%", "'", "\"", "~"] {
            ids.push([&ID[..at], odd, &ID[at + 1..]].concat());
        }
    }
    ids
}

#[test]
fn a_malformed_id_is_treated_as_an_unknown_one() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("malformed ids", |server| {
        let mut client = server.connect();
        for id in malformed() {
            for (method, path) in
                [("GET", "/keys/"), ("PUT", "/keys/"), ("DELETE", "/keys/"), ("PUT", "/keepalive/")]
            {
                for query in ["", "?"] {
                    let path = format!("{path}{id}{query}");
                    let answer = client.send(method, &path, "").unwrap();
                    assert_eq!((answer.status, &*answer.body), (404, "{}"), "{method} {path}");
                }
                // An unknown parameter is refused first, except on a path that is none.
                let path = format!("{path}{id}?a=b");
                let status = client.send(method, &path, "").unwrap().status;
                assert!([400, 404].contains(&status), "{method} {path}: {status}");
            }
        }
        // Upper case is an id all the same, an empty query means nothing, and a slash more is another path.
        let id =
            client.send("POST", "/keys", "").unwrap().body.split('"').nth(3).unwrap().to_owned();
        for path in [id.to_uppercase(), format!("{id}?"), id.replacen('-', "%2D", 1)] {
            assert_eq!(
                client.send("GET", &format!("/keys/{path}"), "").unwrap().status,
                200,
                "{path}"
            );
        }
        assert_eq!(client.send("GET", &format!("/keys/{id}/"), "").unwrap().status, 404);
        // A character that no path may contain is not HTTP.
        for odd in ["\0", "\n", "\r", "\x7f", " "] {
            let mut client = server.connect();
            let answer = client.send("GET", &format!("/keys/{odd}{}", &ID[1..]), "");
            assert!(answer.is_ok_and(|answer| answer.status == 400), "{odd:?}");
        }
    });
    siege.end();
}
