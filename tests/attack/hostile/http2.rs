//! HTTP/2 frame by frame, and how it can be abused.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::siege::Siege;

/// How a connection begins: the preface, and settings that keep field compression simple.
pub(crate) const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x01\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The largest payload that a server must take.
const PAYLOAD_MAX: usize = 16_384;
/// Longer than any timeout of the server.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a connection may take nothing before it counts as full.
const FULL: Duration = Duration::from_millis(500);

pub(crate) type Field<'a> = (&'a str, &'a str);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A number with a prefix of 7 bits (RFC 7541, section 5.1).
fn number(mut number: usize) -> Vec<u8> {
    if number < 127 {
        return vec![u8::try_from(number).unwrap()];
    }
    let mut bytes = vec![127];
    number -= 127;
    while number >= 128 {
        bytes.push(u8::try_from(number % 128).unwrap() | 128);
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// Literal fields, which neither side adds to its table.
fn literals(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.extend(number(text.len()));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Statuses that one byte stands for, from 0x88 on (RFC 7541, appendix A).
const INDEXED: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];

/// The status that a field block begins with: indexed, or three digits in the Huffman code or not.
fn status(mut block: &[u8]) -> String {
    // The settings leave the server no table.
    while let Some(rest) = block.strip_prefix(b"\x20") {
        block = rest;
    }
    if let Some(indexed) = block[0].checked_sub(0x88).and_then(|i| INDEXED.get(usize::from(i))) {
        return (*indexed).to_owned();
    }
    assert_eq!(block[0] & 0x0f, 8, "no status: {block:?}");
    let value = &block[2..2 + usize::from(block[1] & 0x7f)];
    if block[1] < 0x80 {
        return String::from_utf8(value.to_vec()).unwrap();
    }
    let bits: Vec<u8> =
        value.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let (mut digits, mut at) = (String::new(), 0);
    while digits.len() < 3 {
        // 0 to 2 have five bits, 3 to 9 six.
        let length = if bits[at..at + 2] == [0, 0] { 5 } else { 6 };
        let code = bits[at..at + length].iter().fold(0, |code, bit| code * 2 + bit);
        let digit = if length == 5 { code } else { code - 0b01_1001 + 3 };
        digits.push(char::from(b'0' + digit));
        at += length;
    }
    digits
}

pub(crate) struct Frame {
    pub(crate) kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(PREFACE).unwrap();
        Self { stream }
    }

    pub(crate) fn request<'a>(method: &'a str, path: &'a str) -> Vec<Field<'a>> {
        vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")]
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&frame(kind, flags, stream, payload)).unwrap();
    }

    /// Sends fields in as many frames as they need. The server may have closed the connection.
    pub(crate) fn send_headers(&mut self, stream: u32, fields: &[Field<'_>], is_end: bool) {
        let block = literals(fields);
        let count = block.len().div_ceil(PAYLOAD_MAX);
        for (number, part) in block.chunks(PAYLOAD_MAX).enumerate() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let end = if number + 1 == count { END_HEADERS } else { 0 };
            let end_stream = if number == 0 && is_end { END_STREAM } else { 0 };
            let _ = self.stream.write_all(&frame(kind, end | end_stream, stream, part));
        }
    }

    /// The next frame, after those that are answered on the way.
    pub(crate) fn read(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload)?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match (head[3], head[4] & ACK) {
                (SETTINGS, 0) => self.stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
                (PING, 0) => self.stream.write_all(&frame(PING, ACK, 0, &payload))?,
                (SETTINGS | PING, _) => {}
                _ => return Ok(Frame { kind: head[3], flags: head[4], stream, payload }),
            }
        }
    }

    /// The status that is answered to a request.
    pub(crate) fn status(&mut self, stream: u32) -> String {
        loop {
            let frame = self.read().expect("an answer");
            if frame.kind == HEADERS && frame.stream == stream {
                assert_ne!(frame.flags & END_HEADERS, 0);
                return status(&frame.payload);
            }
            assert!(frame.kind != RST_STREAM || frame.stream != stream, "reset");
        }
    }
}

/// Sends the same bytes as often as the server takes them, and reads the answers or does not.
fn flood(address: SocketAddr, first: &[u8], again: &[u8], times: usize, reads: bool) {
    let mut connection = Connection::to(address);
    let mut answers = connection.stream.try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while reads && answers.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    connection.stream.set_write_timeout(Some(if reads { PATIENCE } else { FULL })).unwrap();
    let many = again.repeat(100);
    // It fails when the server has had enough.
    let _ = connection.stream.write_all(first);
    for _ in 0..times / 100 {
        if connection.stream.write_all(&many).is_err() {
            break;
        }
    }
    let _ = connection.stream.shutdown(std::net::Shutdown::Both);
    reader.join().unwrap();
}

#[test]
fn rapid_resets_do_not_affect_honest_clients() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    for (path, what) in [("/keys/x", "looks"), ("/keys?wait=60s", "leases"), ("/stats", "counts")] {
        siege.attack(&format!("rapid resets of {what}"), |server| {
            let block = literals(&Connection::request("GET", path));
            for _ in 0..10 {
                let mut connection = Connection::to(server.address);
                for burst in 0..100 {
                    let mut frames = Vec::new();
                    for number in 0..50 {
                        let stream = 2 * (50 * burst + number) + 1;
                        frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
                        frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                    }
                    if connection.stream.write_all(&frames).is_err() {
                        break;
                    }
                }
            }
        });
    }
    siege.end();
}

#[test]
fn floods_of_frames_do_not_affect_honest_clients() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    let get = literals(&Connection::request("GET", "/keys/x"));
    let post = literals(&Connection::request("POST", "/keys"));
    let open = frame(HEADERS, END_HEADERS, 1, &post);
    // A field that is remembered, and one reference of a byte to its 4000 (a bomb).
    let name = [&[0x40][..], &number(1), b"x", &number(4000), &[b'y'; 4000]].concat();
    let bomb = [&get[..], &name, &[0xbe; 10_000]].concat();
    let floods: [(&str, Vec<u8>, Vec<u8>); 12] = [
        ("pings", vec![], frame(PING, 0, 0, &[0; 8])),
        ("answers to no pings", vec![], frame(PING, ACK, 0, &[9; 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("empty settings", vec![], frame(SETTINGS, 0, 0, &[])),
        ("empty data", open.clone(), frame(DATA, 0, 1, &[])),
        ("data of one byte", open.clone(), frame(DATA, 0, 1, b" ")),
        ("data that is all padding", open, frame(DATA, 8, 1, &[99; 100])),
        ("continuations", frame(HEADERS, 0, 1, &get), frame(CONTINUATION, 0, 1, &[])),
        (
            "long continuations",
            frame(HEADERS, 0, 1, &get),
            frame(CONTINUATION, 0, 1, &literals(&[("x", "y")]).repeat(100)),
        ),
        ("windows", vec![], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("priorities", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 5, 1])),
        ("unknown frames", vec![], frame(99, 0, 0, &[0; 100])),
    ];
    for (name, first, again) in &floods {
        for reads in [true, false] {
            siege.attack(
                &format!("{name}, answers are {}", if reads { "read" } else { "not read" }),
                |server| {
                    (0..2).for_each(|_| flood(server.address, first, again, 1_000_000, reads));
                },
            );
        }
    }
    siege.attack("bombs of field compression", |server| {
        let before = server.resident_bytes();
        let mut kept = Vec::new();
        for _ in 0..50 {
            let mut connection = Connection::to(server.address);
            connection.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
            // It is refused, or the whole connection is.
            let frame = connection.read();
            assert!(frame.is_err() || frame.is_ok_and(|frame| frame.kind != HEADERS || status(&frame.payload) == "431"));
            kept.push(connection);
        }
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 50 * 256 * 1024, "{grown} bytes for 50 bombs of 14 kB");
        kept
    });
    siege.end();
}

#[test]
fn thousands_of_streams_are_limited() {
    let siege = Siege::start(&["--key-ttl", "1h"]);
    siege.attack("streams that never end", |server| {
        let block = literals(&Connection::request("POST", "/keys"));
        let mut kept = Vec::new();
        for _ in 0..20 {
            let mut connection = Connection::to(server.address);
            for number in 0..2000 {
                let head = frame(HEADERS, END_HEADERS, 2 * number + 1, &block);
                if connection.stream.write_all(&head).is_err() {
                    break;
                }
            }
            // Most are refused, one by one or with the connection.
            let mut refused = 0;
            while refused < 1000 {
                match connection.read() {
                    Ok(frame) if frame.kind == RST_STREAM => refused += 1,
                    Ok(frame) => assert_ne!(frame.kind, HEADERS, "an answer to half a request"),
                    Err(_) => break,
                }
            }
            kept.push(connection);
        }
        kept
    });
    siege.end();
}
