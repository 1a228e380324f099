//! The disk is full: what would change something is refused, what only looks is answered, and nothing that was
//! acknowledged is lost. Once there is room, the server goes on by itself.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::{AT_ONCE, Subject};
use crate::client::{Answer, Client};

/// Room for the first segment and a second one of twice its size, and not for a snapshot.
const SMALL: &str = "capacity 12582912";
/// Room for the first segment only.
const TINY: &str = "capacity 4500000";
/// Room for some more, twice.
const MORE: [&str; 2] = ["capacity 25165824", "capacity 37748736"];
/// How often each request is tried on a disk that is full.
const ROUNDS: usize = 5;

/// Creates keys until the disk has no room.
fn fill(subject: &mut Subject, client: &mut Client) {
    let give_up = Instant::now() + AT_ONCE * 10;
    loop {
        let answer = subject.create(client, 20_000).expect("an answer");
        if answer.status != 201 {
            return assert_refused(&answer);
        }
        assert!(Instant::now() < give_up, "the disk is never full");
    }
}

fn assert_refused(answer: &Answer) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert!(answer.body.contains("/problems/storage-full\""), "{answer:?}");
}

/// Requests that change something, or may.
fn changes(key: &str) -> [(&'static str, String, &'static str); 8] {
    [
        ("POST", "/keys".to_owned(), ""),
        ("GET", "/keys".to_owned(), ""),
        ("GET", "/keys?wait=10s".to_owned(), ""),
        ("POST", "/leases".to_owned(), ""),
        ("PUT", format!("/keepalive/{key}"), ""),
        ("PUT", format!("/keys/{key}/lease"), ""),
        ("DELETE", format!("/keys/{key}"), ""),
        ("PUT", "/pools/other".to_owned(), ""),
    ]
}

/// Asserts that requests are answered that only look.
fn look(client: &mut Client, key: &str) {
    for (path, status) in [
        (format!("/keys/{key}"), 200),
        ("/keys/00000000-0000-4000-8000-000000000000".to_owned(), 404),
        ("/stats".to_owned(), 200),
        ("/healthz".to_owned(), 200),
        ("/readyz".to_owned(), 200),
        ("/metrics".to_owned(), 200),
    ] {
        let answer = client.send("GET", &path, "");
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
}

/// Waits until keys can be created again.
fn await_room(subject: &mut Subject, client: &mut Client) {
    let give_up = Instant::now() + AT_ONCE * 3;
    while subject.create(client, 1).expect("an answer").status != 201 {
        assert!(Instant::now() < give_up, "the server does not notice the room");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_disk_refuses_changes_answers_looks_and_loses_nothing() {
    for durability in ["commit", "everysec"] {
        let mut subject = Subject::start(durability, SMALL);
        let (mut client, mut other) = (subject.client(), subject.client());
        fill(&mut subject, &mut client);
        let key = subject.acknowledged[0].clone();
        let before = client.stats().number("keys");
        assert_eq!(before, subject.count);
        for _ in 0..ROUNDS {
            for (method, path, body) in changes(&key) {
                assert_refused(&client.send(method, &path, body).unwrap());
                // On the same connection, behind what was refused, and on another one.
                look(&mut client, &key);
                look(&mut other, &key);
            }
        }
        assert_eq!(client.stats().number("keys"), before);
        subject.server.await_line("the disk");
        for more in MORE {
            subject.disk.set(more);
            await_room(&mut subject, &mut client);
            subject.server.await_line("the disk has room again");
            for (method, path, body) in changes(&key).into_iter().filter(|one| one.0 != "DELETE") {
                let status = client.send(method, &path, body).unwrap().status;
                // The lease that is renewed is that of another key, most likely.
                assert!([200, 201, 409].contains(&status), "{method} {path}: {status}");
            }
            fill(&mut subject, &mut client);
            look(&mut client, &key);
        }
        subject.server.kill();
        subject.check_kept();
    }
}

/// Two creations that do not fit the segment together. If the second one comes so soon that it is not refused, it waits for
/// room, and so does all that may rest on it.
#[test]
fn a_change_that_does_not_fit_is_refused_or_waits_for_room() {
    let mut subject = Subject::start("commit", TINY);
    let (mut client, mut other) = (subject.client(), subject.client());
    assert_eq!(subject.create(&mut client, 90_000).expect("an answer").status, 201);
    let body = r#"{"count":90000}"#;
    let length = body.len();
    let text =
        format!("POST /keys HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
    client.stream.write_all(text.as_bytes()).unwrap();
    subject.server.await_line("the disk");
    // Health is no matter of keys.
    assert_eq!(other.send("GET", "/healthz", "").unwrap().status, 200);
    let key = subject.acknowledged[0].clone();
    let show = format!("GET /keys/{key} HTTP/1.1\r\nHost: test\r\n\r\n");
    other.stream.write_all(show.as_bytes()).unwrap();
    subject.disk.set("");
    let second = client.read().unwrap();
    if second.status == 201 {
        subject.count += 90_000;
    } else {
        assert_refused(&second);
    }
    assert_eq!(other.read().unwrap().status, 200);
    await_room(&mut subject, &mut client);
    look(&mut client, &key);
    subject.server.kill();
    subject.check_kept();
}

#[test]
fn a_server_on_a_full_disk_stops_and_loses_nothing() {
    for rules in [SMALL, TINY] {
        let mut subject = Subject::start("everysec", rules);
        let mut client = subject.client();
        fill(&mut subject, &mut client);
        subject.server.signal("TERM");
        assert!(subject.server.wait().success());
        subject.check_kept();
    }
}

/// The segment that an earlier run has made ready is enough; without one, the server says what it needs.
#[test]
fn a_start_on_a_full_disk_needs_a_segment() {
    let mut subject = Subject::start("commit", "capacity 9000000");
    let mut client = subject.client();
    assert_eq!(subject.create(&mut client, 10).expect("an answer").status, 201);
    let give_up = Instant::now() + AT_ONCE;
    while !subject.disk.has("segment-000000000002") {
        assert!(Instant::now() < give_up, "no segment is made ready");
        thread::sleep(Duration::from_millis(1));
    }
    subject.server.kill();
    subject.disk.set("capacity 0");
    subject.start_again();
    let mut client = subject.client();
    look(&mut client, &subject.acknowledged[0].clone());
    assert_eq!(subject.create(&mut client, 10).expect("an answer").status, 201);
    subject.server.kill();
    let refusal = subject.refusal();
    assert!(refusal.starts_with("error: --data-dir: cannot use "), "{refusal}");
    assert!(refusal.contains("No space left on device"), "{refusal}");
    assert!(refusal.contains(subject.disk.data()), "{refusal}");
    subject.check_kept();
}
