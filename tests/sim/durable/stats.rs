//! What the threads of a journal count.

use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use token_orchestrator::engine::{Entry, Pool, Size, WalkCursor};
use token_orchestrator::journal::{
    Disk, DiskFile, Durability, Journal, Restorer, Source, Threads, Tuning, open,
};
use token_orchestrator::pool::Settings;
use token_orchestrator::time::{ClockAnchor, Timestamp};

use super::super::disk::SimDisk;
use super::pools::{SEGMENT_BYTES, SNAPSHOT_AFTER_BYTES};
use super::steps::{pool_name, settings};

const NOW: Timestamp = Timestamp::from_ms(1000);

/// A disk without room for snapshots.
struct NoSnapshots(SimDisk);

impl Disk for NoSnapshots {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        if name.starts_with("snapshot") {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Box<dyn Disk>> {
        self.0.subdirectory(name)
    }

    fn remove_subdirectory(&self, name: &str) -> io::Result<()> {
        self.0.remove_subdirectory(name)
    }
}

/// Pools without keys.
struct NoKeys;

impl Source for NoKeys {
    fn walk(&self, _: u32, _: WalkCursor, _: &mut dyn FnMut(Entry)) -> Option<WalkCursor> {
        None
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn has_room(&self) {}
}

/// A new journal, and its threads.
fn running(disk: Arc<dyn Disk>) -> (Journal, Threads) {
    let journal = Journal::new();
    let of_pools = journal.clone();
    let make = move |number, settings: Settings| {
        Pool::with_journal(settings.into(), Size::growing(4), of_pools.of_pool(number))
    };
    let mut restorer = Restorer::new(make, settings(0), Box::new(|_, _| {}));
    let opened = open(disk, None, &|_| None, &mut restorer).unwrap();
    let (_, noted, _) = restorer.into_pools();
    let tuning = Tuning {
        durability: Durability::Commit,
        segment_bytes: SEGMENT_BYTES,
        snapshot_after_bytes: SNAPSHOT_AFTER_BYTES,
    };
    let begun = opened.begin(&journal, tuning, noted, ClockAnchor::default(), NOW).unwrap();
    // The test would wait in vain for what is not committed, and say so.
    let failed = |error: &io::Error| eprintln!("the disk has failed: {error}");
    let threads =
        Threads::start(begun, journal.clone(), Arc::new(NoKeys), Arc::new(failed)).unwrap();
    (journal, threads)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "in vain: {what}");
        sleep(Duration::from_micros(100));
    }
}

#[test]
fn commits_and_snapshots_are_counted() {
    let disk = SimDisk::new(1);
    for (disk, fails) in [
        (Arc::new(disk.clone()) as Arc<dyn Disk>, false),
        (Arc::new(NoSnapshots(SimDisk::new(1))), true),
    ] {
        let (journal, threads) = running(disk);
        let mut commits = journal.stats().commits;
        // No commit writes as much as a segment has: so one at least comes when a snapshot is due.
        while journal.stats().written_bytes < SNAPSHOT_AFTER_BYTES + SEGMENT_BYTES {
            let before = journal.stats();
            journal.note_pool(1, &pool_name(1), settings(1), NOW);
            let frame = journal.uncommitted(NOW).expect("a change was noted");
            wait_until("the change is committed", || journal.is_committed(frame));
            let after = journal.stats();
            commits += 1;
            assert_eq!(after.commits, commits, "each commit counts once");
            assert!(after.written_bytes > before.written_bytes, "{before:?} {after:?}");
            assert!(after.commit_ns > before.commit_ns, "{before:?} {after:?}");
            assert!(after.has_room, "{after:?}");
        }
        wait_until("a snapshot is counted", || {
            let stats = journal.stats();
            stats.snapshots_written + stats.snapshots_failed > 0
        });
        threads.close();
        let stats = journal.stats();
        let counted = (stats.snapshots_written, stats.snapshots_failed);
        assert_eq!(counted, if fails { (0, 1) } else { (1, 0) });
        assert_eq!(stats.snapshot_bytes > 0, !fails, "{stats:?}");
        if fails {
            assert_eq!(stats.bytes_since_snapshot, stats.written_bytes);
        } else {
            let since = stats.bytes_since_snapshot;
            assert!(since > 0 && since <= stats.written_bytes - SNAPSHOT_AFTER_BYTES, "{stats:?}");
        }
    }
    // What is read again is what the next start says of the directory.
    let (journal, threads) = running(Arc::new(disk));
    let stats = journal.stats();
    assert_eq!((stats.snapshots_written, stats.commits), (0, 1));
    assert!(stats.snapshot_bytes > 0, "{stats:?}");
    assert!(stats.bytes_since_snapshot > stats.written_bytes, "{stats:?}");
    threads.close();
}
