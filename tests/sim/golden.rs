//! Writes the golden directories of the format: `UPDATE_GOLDEN=1 cargo test --lib golden`, and then the same with
//! `--test it`. They are read back by `tests/it/golden.rs`.
//!
//! Once a version has been released, a golden directory stays: a later version must read what an earlier one has written.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use token_orchestrator::journal::{Begun, DataKey, Directory, Durability, Journal, Source, Tuning};
use token_orchestrator::key::{Fence, Holder, Label, Value};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{
    ClockState, DataDirectory, Leasing, Memory, Options, OwnKey, Release, Store, StoreExt,
};
use token_orchestrator::time::{Clock, ManualClock};

/// So small that a directory has several.
const SEGMENT_BYTES: u64 = 12 << 10;

/// A server that does one thing after the other.
struct Server {
    store: Memory<ManualClock>,
    clock: ManualClock,
    begun: Begun,
    journal: Journal,
}

impl Server {
    /// Starts with what a directory has.
    fn start(directory: &DataDirectory) -> Self {
        let disk = Arc::new(Directory::make(&directory.path).unwrap());
        let tuning = Tuning {
            durability: Durability::Commit,
            segment_bytes: SEGMENT_BYTES,
            snapshot_after_bytes: u64::MAX,
        };
        let clock = ManualClock::default();
        let make_clock = |state: Option<ClockState>| {
            clock.advance_ms(state.map_or(1_000_000, |state| state.seen.as_ms() + 5));
            clock.clone()
        };
        let quotas = HashMap::default();
        let (store, begun, journal) = Memory::restore(
            Options::default(),
            disk,
            directory,
            tuning,
            &quotas,
            make_clock,
            Box::new(|_, _| {}),
        )
        .unwrap();
        Self { store, clock, begun, journal }
    }

    /// Does something, and commits what it has changed.
    fn run<T>(&mut self, call: impl AsyncFnOnce(Memory<ManualClock>) -> T) -> T {
        let mut future = pin!(call(self.store.clone()));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                self.clock.advance_ms(10);
                return done;
            }
            self.begun.committer.spares.prepare().unwrap();
            self.begun.committer.commit(|| self.clock.now(), false, &|_| ()).unwrap();
        }
        panic!("it waits for something else than a commit");
    }

    /// Leases and releases so often that a segment is full.
    fn fill_segment(&mut self) {
        for _ in 0..60 {
            self.run(async |store| {
                let leased = store.lease(Leasing::default()).await.unwrap();
                store.release(&leased.id, Release::default()).await.unwrap();
            });
        }
    }

    fn write_snapshot(&mut self) {
        let Begun { committer, snapshots } = &mut self.begun;
        committer.spares.prepare().unwrap();
        let start =
            committer.commit(|| self.store.now(), true, &|_| ()).unwrap().expect("it is wanted");
        let spares = Arc::clone(&committer.spares);
        let mut pause = |_: Duration| true;
        let is_written =
            snapshots.write(&start, &self.store, &self.journal, &spares, &mut pause).unwrap();
        assert!(is_written, "it was not written");
    }
}

fn holder(name: &str) -> Holder {
    Holder::new(name, None).unwrap()
}

fn own(value: &str, labels: &[(&str, &str)]) -> OwnKey {
    let labels = labels.iter().map(|(key, value)| Label::new(key, value).unwrap()).collect();
    OwnKey { value: Value::new(value).unwrap(), labels }
}

/// Writes a directory that has some of everything: three runs, a snapshot, and frames after it.
fn write(directory: &DataDirectory) {
    let _ = fs::remove_dir_all(&directory.path);
    let mut server = Server::start(directory);
    // Lives are long, so that all of it is still there when it is read.
    let settings = Settings { key_ttl_ms: None, lapse_cooldown_ms: 5000, ..Settings::default() };
    let days = Settings { key_ttl_ms: Some(7 * 24 * 3600 * 1000), ..Settings::default() };
    server.run(async |store| {
        store.put_pool("openai".parse().unwrap(), settings).await.unwrap();
        store.put_pool("gone".parse().unwrap(), settings).await.unwrap();
        store.put_pool("default".parse().unwrap(), days).await.unwrap();
        store.create(6).await.unwrap();
    });
    let openai = server.store.find_pool("openai").unwrap();
    let (mut of_pool, mut of_key) = (0_usize, 0_u64);
    server.run(async |store| {
        let keys = [
            own("sk-plain", &[]),
            own("sk-with-labels", &[("plan", "pro"), ("region", "eu")]),
            own("sk-leased", &[("plan", "free")]),
            own("värde", &[]),
        ];
        of_pool = store.import(openai, &keys).await.unwrap().created;
        let gone = store.find_pool("gone").unwrap();
        StoreExt::pool(&store, gone).create(3).await.unwrap();
        store.delete_pool("gone", true).await.unwrap();
        let leased = store.lease(Leasing::default()).await.unwrap();
        store
            .release(&leased.id, Release { fence: Fence::Any, cooldown_ms: 30_000 })
            .await
            .unwrap();
        let label = Some(Label::new("plan", "free").unwrap());
        let holder = Some(holder("worker-7"));
        of_key = StoreExt::pool(&store, openai)
            .lease(Leasing { label, holder, ..Leasing::default() })
            .await
            .unwrap()
            .generation;
    });
    assert_eq!((of_pool, of_key), (4, 1));
    server.fill_segment();
    drop(server);

    let mut server = Server::start(directory);
    server.run(async |store| drop(store.create(2).await.unwrap()));
    server.write_snapshot();
    server.run(async |store| {
        let deleted = store.create(1).await.unwrap().ids[0];
        store.delete(&deleted, Fence::Any).await.unwrap();
        let settings = Settings { keys_max: 100, wait_ms_max: 1000, ..settings };
        store.put_pool("openai".parse().unwrap(), settings).await.unwrap();
        store.put_pool("later".parse().unwrap(), settings).await.unwrap();
    });
    server.fill_segment();
    drop(server);

    let mut server = Server::start(directory);
    server.run(async |store| {
        store.lease(Leasing::of_any(Some(20_000), 0)).await.unwrap();
        let holder = Some(holder("worker-8"));
        store.lease(Leasing { holder, ..Leasing::default() }).await.unwrap();
        let later = store.find_pool("later").unwrap();
        StoreExt::pool(&store, later).create(1).await.unwrap();
        let last = store.create(1).await.unwrap().ids[0];
        store.keep_alive(&last).await.unwrap();
    });
    // What was written last, so that a torn end is known by what is missing.
    server.run(async |store| drop(store.create(1).await.unwrap()));
}

/// The path of the newest segment with frames, and where each of its frames begins and ends.
fn newest_frames(directory: &Path) -> (PathBuf, Vec<[usize; 2]>) {
    let number =
        |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|path| path.to_str().unwrap().contains("/segment-"));
    let begun = segments.filter(|path| number(&fs::read(path).unwrap(), 40) > 0);
    let newest = begun.max().expect("there is one");
    let bytes = fs::read(&newest).unwrap();
    let (mut at, mut frames) = (4096, Vec::new());
    // Behind them there may be those of an earlier segment.
    while number(&bytes, at + 8) == number(&bytes, 40) + frames.len() as u64 {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        let end = at + (48 + length as usize).next_multiple_of(8);
        frames.push([at, end]);
        at = end;
    }
    (newest, frames)
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn golden_directories_are_written_if_that_is_wanted() {
    if env::var_os("UPDATE_GOLDEN").is_none() {
        return;
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, key) in [("plain", None), ("sealed", Some(DataKey::new([0x0f; 32])))] {
        let path = golden.join(name);
        let durability = Durability::Commit;
        write(&DataDirectory { path, durability, key, restart_grace_ms: 0 });
    }
    let plain = golden.join("plain");
    for (name, wanted) in [("torn", 1), ("damaged", 3)] {
        let path = golden.join(name);
        copy(&plain, &path);
        let (newest, frames) = newest_frames(&path);
        let [at, end] = frames[frames.len() - wanted];
        let mut bytes = fs::read(&newest).unwrap();
        if name == "torn" {
            bytes[at + 60..end].fill(0);
        } else {
            bytes[at + 60] ^= 1;
        }
        fs::write(newest, bytes).unwrap();
    }
}
