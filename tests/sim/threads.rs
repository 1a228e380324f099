//! The threads of a journal: what they make of a disk with little room, of one that fails, and of their own faults.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, channel};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use token_orchestrator::engine::{Entry, Pool, Size, WalkCursor};
use token_orchestrator::journal::{
    Begun, DataKey, Durability, Journal, Restorer, Source, Threads, Tuning, open,
};
use token_orchestrator::pool::{PoolName, Settings};
use token_orchestrator::time::{ClockAnchor, Timestamp};

use super::disk::SimDisk;
use super::durable::settings;

const MIB: u64 = 1 << 20;
/// How long something may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn begin(disk: &SimDisk, segment_bytes: u64) -> (Journal, Begun) {
    begin_with(disk, segment_bytes, Durability::Commit, None)
}

pub(super) fn begin_with(
    disk: &SimDisk,
    segment_bytes: u64,
    durability: Durability,
    data_key: Option<DataKey>,
) -> (Journal, Begun) {
    let make = |_, settings: Settings| Pool::with_journal(settings.into(), Size::growing(4), ());
    let mut restorer = Restorer::new(make, settings(0), Box::new(|_, _| {}));
    let opened = open(Arc::new(disk.clone()), data_key, &|_| None, &mut restorer).unwrap();
    let (_, noted, _) = restorer.into_pools();
    let journal = Journal::new();
    let tuning = Tuning { durability, segment_bytes, snapshot_after_bytes: 256 * MIB };
    let begun = opened.begin(&journal, tuning, noted, ClockAnchor::default(), Timestamp::default());
    (journal, begun.unwrap())
}

/// Pools without keys, and a clock that panics when it is told to.
#[derive(Default)]
pub(super) struct Empty {
    panics: AtomicBool,
}

impl Source for Empty {
    fn walk(&self, _: u32, _: WalkCursor, _: &mut dyn FnMut(Entry)) -> Option<WalkCursor> {
        None
    }

    fn now(&self) -> Timestamp {
        assert!(!self.panics.load(SeqCst), "a fault of the clock");
        Timestamp::default()
    }

    fn has_room(&self) {}
}

/// The running threads of a journal, and what they tell of.
fn run(disk: &SimDisk, source: Arc<Empty>) -> (Threads, Journal, Receiver<String>) {
    let (journal, begun) = begin(disk, 64 * 1024);
    let (tell, told) = channel();
    let failed = move |error: &std::io::Error| tell.send(error.to_string()).unwrap();
    let threads = Threads::start(begun, journal.clone(), source, Arc::new(failed)).unwrap();
    (threads, journal, told)
}

/// Else all who wait for a commit would wait for ever, and so would the end of the server.
#[test]
fn a_thread_that_panics_is_told_and_holds_up_no_end() {
    let source = Arc::<Empty>::default();
    let (threads, journal, told) = run(&SimDisk::new(1), Arc::clone(&source));
    source.panics.store(true, SeqCst);
    assert!(journal.uncommitted(Timestamp::from_ms(10_000)).is_some());
    let what = told.recv_timeout(PATIENCE).unwrap();
    assert!(what.contains("\"commit\" of the journal has panicked"), "{what}");
    threads.close();
    assert_eq!(told.iter().count(), 0);
}

/// Whichever thread meets it: here it is the one that makes segments, as nothing is committed.
#[test]
fn a_disk_that_fails_while_a_segment_is_made_is_told_once() {
    let disk = SimDisk::new(1);
    let (journal, begun) = begin(&disk, 64 * 1024);
    let (tell, told) = channel();
    let failed = move |error: &std::io::Error| tell.send(error.to_string()).unwrap();
    disk.fail();
    let source = Arc::<Empty>::default();
    let threads = Threads::start(begun, journal, source, Arc::new(failed)).unwrap();
    let what = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(what, "a segment of the journal cannot be made: the disk has failed");
    threads.close();
    assert_eq!(told.iter().count(), 0);
}

/// Segments become shorter before there is no room for one, and then a frame gets one for itself.
#[test]
fn a_disk_with_little_room_is_used_up() {
    let disk = SimDisk::new(1);
    let (_, Begun { committer, .. }) = begin(&disk, 16 * MIB);
    let spares = &committer.spares;
    // Of which the first segment has 4 MiB.
    disk.set_room(usize::try_from(26 * MIB).unwrap());
    let mut rooms = Vec::new();
    while spares.prepare().is_ok() {
        let segment = spares.take(0).unwrap();
        rooms.push((segment.number, segment.room));
    }
    assert_eq!(rooms, [(2, 16 * MIB), (3, 4 * MIB)]);
    assert!(spares.is_in_trouble() && spares.take(0).is_none());
    // There are 2 MiB left.
    assert!(spares.make_for(3 * MIB).is_err());
    let last = spares.make_for(MIB).unwrap();
    assert_eq!((last.number, last.room), (4, MIB));
    disk.set_room(usize::MAX);
    spares.prepare().unwrap();
    assert!(!spares.is_in_trouble());
    let next = spares.take(0).unwrap();
    assert_eq!((next.number, next.room), (5, 16 * MIB));
}

/// No frame is written past the end of a segment that is shorter than others.
#[test]
fn a_segment_that_is_too_short_for_a_frame_is_not_used_for_it() {
    let disk = SimDisk::new(1);
    let (_, Begun { committer, .. }) = begin(&disk, 16 * MIB);
    let spares = &committer.spares;
    disk.set_room(usize::try_from(9 * MIB).unwrap());
    spares.prepare().unwrap();
    disk.set_room(usize::MAX);
    assert!(spares.take(8 * MIB).is_none());
    let longer = spares.make_for(8 * MIB).unwrap();
    assert_eq!((longer.number, longer.room), (2, 8 * MIB));
    // One is about to be made: there is no hurry.
    assert!(spares.make_for(8 * MIB).is_err() && spares.take(0).is_none());
    spares.prepare().unwrap();
    assert_eq!(spares.take(8 * MIB).map(|segment| segment.number), Some(3));
}

/// Who has got an answer is refused if there is no room for what it changes then: it must not wait until there is.
#[test]
fn no_answer_leaves_before_it_is_known_that_there_is_no_room() {
    const SEGMENT: u64 = 64 * 1024;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (journal, begun) = begin(&disk, SEGMENT);
        disk.set_room(usize::try_from(SEGMENT + 100).unwrap());
        let source = Arc::<Empty>::default();
        let spares = Arc::clone(&begun.committer.spares);
        let threads = Threads::start(begun, journal.clone(), source, Arc::new(|_: &_| ())).unwrap();
        let give_up = Instant::now() + PATIENCE;
        while !spares.is_in_trouble() {
            assert!(Instant::now() < give_up, "there is room for a segment");
            yield_now();
        }
        let name: PoolName = "a".repeat(60).parse().unwrap();
        let mut noted = 0;
        while noted < SEGMENT * 4 / 5 {
            journal.note_pool(1, &name, settings(0), Timestamp::default());
            // As many bytes as its record has.
            noted += 108;
        }
        assert!(!journal.is_full());
        let frame = journal.uncommitted(Timestamp::default()).unwrap();
        while !journal.is_committed(frame) {
            assert!(Instant::now() < give_up, "nothing is committed");
        }
        assert!(journal.is_full());
        disk.set_room(usize::MAX);
        threads.close();
    }
}

#[test]
fn what_comes_before_answers_is_done_before_they_leave() {
    let disk = SimDisk::new(1);
    let (journal, Begun { mut committer, .. }) = begin(&disk, 64 * 1024);
    let frame = journal.filling();
    let calls = Cell::new(0);
    let look_ahead = |_: &_| {
        assert!(!journal.is_committed(frame));
        calls.set(calls.get() + 1);
    };
    committer.commit(Timestamp::default, false, &look_ahead).unwrap();
    assert!(journal.is_committed(frame));
    assert_eq!(calls.get(), 1);
}
