//! What a server shows of its data directory: in metrics.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Folder, kill};
use crate::cli::{binary, request, start};

/// What a server says of its data directory: each of these metrics by its name without the prefix.
struct Shown(BTreeMap<String, String>);

impl Shown {
    fn by(address: &str) -> Self {
        let text = request(address, "GET", "/metrics");
        let own = text.lines().filter_map(|line| line.strip_prefix("token_orchestrator_"));
        let own = own.filter(|line| line.starts_with("journal_") || line.starts_with("snapshot"));
        let own = own.map(|line| line.rsplit_once(' ').unwrap());
        Self(own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn bytes(&self, name: &str) -> u64 {
        self.0[name].parse().unwrap()
    }
}

#[test]
fn metrics_tell_of_the_directory() {
    let mut command = binary();
    let (server, address, _) = start(command.args(["--listen", "127.0.0.1:0"]));
    assert_eq!(Shown::by(&address).0, BTreeMap::new());
    kill(server);
    let folder = Folder::new("metrics");
    let (server, address) = folder.serve(&[]);
    let before = Shown::by(&address).0;
    assert!(request(&address, "POST", "/keys").starts_with("HTTP/1.1 201"));
    let after = Shown::by(&address);
    let number = |of: &BTreeMap<String, String>, name: &str| of[name].parse::<f64>().unwrap();
    for (name, grows) in [
        ("journal_written_bytes_total", true),
        ("journal_commits_total", true),
        ("journal_commit_seconds_total", true),
        ("journal_bytes_since_snapshot", true),
        ("journal_has_room", false),
        ("snapshots_total{outcome=\"written\"}", false),
        ("snapshots_total{outcome=\"failed\"}", false),
        ("snapshot_bytes", false),
    ] {
        let has_grown = number(&after.0, name) > number(&before, name);
        assert_eq!(has_grown, grows, "{name}: {before:?}, {:?}", after.0);
    }
    assert_eq!(before.len(), 8, "{before:?}");
    assert_eq!(after.bytes("journal_has_room"), 1);
    // A frame with one record.
    let since = after.bytes("journal_bytes_since_snapshot");
    assert!(since >= 88, "{:?}", after.0);
    kill(server);
    // Each start begins a segment, and so many of them are a reason for a snapshot.
    for _ in 0..2 {
        let (server, address) = folder.serve(&[]);
        let found = Shown::by(&address);
        assert!(found.bytes("journal_bytes_since_snapshot") >= 88, "{:?}", found.0);
        assert_eq!(found.bytes("snapshot_bytes"), 0);
        kill(server);
    }
    kill(folder.serve(&[]).0);
    let (server, address) = folder.serve(&[]);
    let began = Instant::now();
    let found = loop {
        let found = Shown::by(&address);
        if found.bytes("snapshots_total{outcome=\"written\"}") > 0 {
            break found;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "no snapshot is counted: {:?}", found.0);
        sleep(Duration::from_millis(5));
    };
    let file = fs::metadata(folder.0.join("snapshot-000000000001")).unwrap();
    assert_eq!(found.bytes("snapshot_bytes"), file.len());
    let since = found.bytes("journal_bytes_since_snapshot");
    assert!(since <= found.bytes("journal_written_bytes_total"), "{:?}", found.0);
    kill(server);
}
