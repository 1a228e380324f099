//! The disk says EIO: nothing more is acknowledged, the server ends with status 1 and says why, and the next one has all
//! that was acknowledged.

use std::thread;
use std::time::{Duration, Instant};

use super::faults::EIO;
use super::{AT_ONCE, Subject};

/// Waits until a segment is ready for use, so that a failure of the next call is not one of making that.
fn await_ready(subject: &Subject, segment: &str) {
    let give_up = Instant::now() + AT_ONCE * 3;
    while !subject.disk.has(segment) {
        assert!(Instant::now() < give_up, "{segment} is not made");
        thread::sleep(Duration::from_millis(1));
    }
}

/// How a call fails while a server serves.
struct Failure {
    call: &'static str,
    /// A part of the name of the file.
    file: &'static str,
    durability: &'static str,
    /// How many keys a client asks for at a time: segments are made when others are full.
    count: u64,
    /// Whether it is noticed before the next answer.
    is_noticed: bool,
}

impl Failure {
    fn check(&self) {
        let Self { call, file, durability, count, is_noticed } = *self;
        println!("{call} of {file}, {durability}");
        let mut subject = Subject::start(durability, "");
        await_ready(&subject, "segment-000000000002");
        let mut client = subject.client();
        for _ in 0..5 {
            assert_eq!(subject.create(&mut client, 1).expect("an answer").status, 201);
        }
        subject.disk.take_log();
        subject.disk.set(&format!("fail {call} {EIO} {file}"));
        let before = subject.count;
        let give_up = Instant::now() + AT_ONCE * 3;
        while subject.create(&mut client, count).is_some_and(|answer| answer.status == 201) {
            assert!(Instant::now() < give_up, "the server goes on");
        }
        assert!(!is_noticed || subject.count == before, "an answer left after the failure");
        self.check_end(&mut subject);
        subject.check_kept();
    }

    /// The server ends, and has not tried again what had failed.
    fn check_end(&self, subject: &mut Subject) {
        assert_eq!(subject.server.wait().code(), Some(1));
        let line = subject.error_line();
        let begin = format!("error: {}: ", subject.disk.data());
        assert!(line.starts_with(&begin) && line.contains("Input/output error"), "{line}");
        assert!(line.contains("nothing more is acknowledged"), "{line}");
        let calls = subject.disk.take_log();
        let failed = calls.iter().position(|call| call.error == EIO);
        let failed = failed.unwrap_or_else(|| panic!("nothing has failed: {calls:?}"));
        let is_same = |other: &&super::faults::Call| {
            other.name == calls[failed].name && other.file == calls[failed].file
        };
        let again = calls[failed + 1..].iter().find(is_same);
        assert_eq!(again, None, "{} was tried again", self.call);
    }
}

const COMMIT: &str = "commit";
const EVERYSEC: &str = "everysec";

#[test]
fn a_write_that_fails_ends_the_server_and_loses_nothing() {
    for durability in [COMMIT, EVERYSEC] {
        let file = "segment-";
        Failure { call: "pwrite", file, durability, count: 1, is_noticed: true }.check();
    }
}

/// Linux reports it once, and forgets what it could not write: a second flush would say that all is well.
#[test]
fn a_flush_that_fails_is_not_tried_again_and_loses_nothing() {
    for (durability, is_noticed) in [(COMMIT, true), (EVERYSEC, false)] {
        let file = "segment-";
        Failure { call: "fdatasync", file, durability, count: 1, is_noticed }.check();
    }
}

#[test]
fn a_segment_that_cannot_be_made_for_a_failure_ends_the_server() {
    let of_next = [
        ("fallocate", "segment.tmp"),
        ("pwrite", "segment.tmp"),
        ("fdatasync", "segment.tmp"),
        ("rename", "segment-"),
        ("fsync", "."),
    ];
    for (call, file) in of_next {
        let durability = COMMIT;
        Failure { call, file, durability, count: 20_000, is_noticed: false }.check();
    }
}

/// So many starts that a snapshot is due, and then one more.
#[test]
fn a_snapshot_that_cannot_be_written_for_a_failure_ends_the_server() {
    for (call, file) in
        [("pwrite", "snapshot.tmp"), ("fdatasync", "snapshot.tmp"), ("rename", "snapshot-")]
    {
        println!("{call} of {file}");
        let mut subject = Subject::start(COMMIT, "");
        let mut client = subject.client();
        for _ in 0..5 {
            assert_eq!(subject.create(&mut client, 2).expect("an answer").status, 201);
        }
        subject.disk.set(&format!("fail {call} {EIO} {file}"));
        let mut starts = 0;
        while !subject.server.said().iter().any(|line| line.starts_with("error: ")) {
            starts += 1;
            assert!(starts < 20, "no snapshot is written");
            subject.server.kill();
            subject.disk.take_log();
            subject.spawn_again();
            // It fails soon after this, or at a later start.
            subject.server.await_line("data directory: ");
            // Longer each time: the machine may be busy.
            thread::sleep(Duration::from_millis(100 * starts));
        }
        assert_eq!(subject.server.wait().code(), Some(1));
        let line = subject.error_line();
        assert!(line.contains("Input/output error"), "{line}");
        assert!(subject.disk.take_log().iter().any(|call| call.error == EIO), "{line}");
        subject.check_kept();
    }
}

/// Each call that a start makes.
#[test]
fn a_start_on_a_disk_that_fails_says_so_and_loses_nothing() {
    // Without room for a second segment, each start makes one.
    let mut subject = Subject::start(COMMIT, "capacity 5000000");
    let mut client = subject.client();
    assert_eq!(subject.create(&mut client, 10).expect("an answer").status, 201);
    subject.server.kill();
    for (call, file) in [
        ("fdatasync", "segment-000000000001"),
        ("fallocate", "segment.tmp"),
        ("pwrite", "segment.tmp"),
        ("fdatasync", "segment.tmp"),
        ("rename", "segment-000000000002"),
        ("fsync", "."),
        ("pwrite", "segment-000000000002"),
        ("fdatasync", "segment-000000000002"),
    ] {
        subject.disk.set(&format!("fail {call} {EIO} {file}"));
        let refusal = subject.refusal();
        println!("{call} of {file}: {refusal}");
        assert!(refusal.starts_with("error: --data-dir: cannot use "), "{call}: {refusal}");
        assert!(refusal.contains(subject.disk.data()), "{call}: {refusal}");
        assert!(refusal.contains("Input/output error"), "{call}: {refusal}");
    }
    subject.check_kept();
}
