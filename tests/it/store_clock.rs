//! The clock of an engine is set while it runs, or that of a replica differs when it takes over. Nothing is promised of deadlines
//! then; but time does not run backwards, no `ETag` repeats, and no key has two holders.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use token_orchestrator::error::Error;
use token_orchestrator::key::Fence;
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Leasing, Release, Renewal, StoreExt};

use crate::client::until;
use crate::engine::{Engine, Node};
use crate::store_faults::{answered, open_with, options_for};

/// The wall clock of a process.
struct WallClock {
    ahead: File,
    path: String,
    library: String,
    folder: PathBuf,
}

impl Drop for WallClock {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl WallClock {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("clock-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (path, library) = (path("ahead"), path("clock.so"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/store_clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]);
        assert!(compiler.arg(&library).arg(source).status().expect("cc").success());
        let clock = Self { ahead: File::create(&path).unwrap(), path, library, folder };
        clock.set_ahead(0);
        clock
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("CLOCK_AHEAD", &self.path)]
    }

    /// Sets it so many seconds ahead of the true time.
    fn set_ahead(&self, seconds: i64) {
        self.ahead.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_turns_nothing_back() {
    let clock = WallClock::new();
    let engine = Engine::from(Node::start_in(&clock.environment(), &[]));
    let settings =
        Settings { key_ttl_ms: Some(7_200_000), lease_ttl_ms: 60_000, ..Settings::default() };
    let redis = options_for(engine.urls(), Duration::from_mins(1));
    let store = open_with(&redis, settings).await;
    let id = store.create(1).await.unwrap().ids[0];
    let first = store.lease(Leasing::default()).await.unwrap();

    // Forward: leases end early, as all that is due by then.
    clock.set_ahead(120);
    let second = store.lease(Leasing::default()).await.unwrap();
    assert!(second.id == id && second.generation > first.generation);
    assert!(second.since.ms_since(first.since) >= 119_000);

    // Back: time stands still until the clock has caught up. So what is leased stays so.
    clock.set_ahead(-3600);
    for _ in 0..3 {
        assert!(matches!(store.lease(Leasing::default()).await, Err(Error::Exhausted { .. })));
    }
    assert_eq!(store.get(&id).await.unwrap().generation, second.generation);
    store
        .release(&id, Release { fence: Fence::One(second.generation), cooldown_ms: 0 })
        .await
        .unwrap();
    let third = store.lease(Leasing::default()).await.unwrap();
    assert!(third.generation > second.generation && third.since >= second.since);
    // Another server, to which the shard tells no other time.
    let other = open_with(&redis, settings).await;
    let created = other.create(1).await.unwrap().ids[0];
    assert!(other.get(&created).await.unwrap().created_at >= first.since);

    clock.set_ahead(0);
    let renewal = Renewal { fence: Fence::One(third.generation), lease_ms: None };
    assert!(store.renew(&id, renewal).await.unwrap().until >= third.until);
}

/// A primary, and its replica, whose clock is so many seconds ahead. The replica takes over.
async fn a_failover_turns_nothing_back(ahead: i64) {
    const LEASE_MS: u32 = 1000;
    let clock = WallClock::new();
    clock.set_ahead(ahead);
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "60000"];
    let [mut primary, replica] =
        [&[][..], &clock.environment()].map(|environment| Node::start_in(environment, &options));
    primary.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let address = primary.address();
    let (host, port) = address.split_once(':').unwrap();
    replica.ask(&["CLUSTER", "MEET", host, port]);
    let id_of_primary = primary.ask(&["CLUSTER", "MYID"]);
    let has_joined = async || replica.ask(&["CLUSTER", "REPLICATE", &id_of_primary]) == "OK";
    until("the replica has joined", has_joined).await;
    let has_all = async || {
        let info = primary.ask(&["INFO", "replication"]);
        let offset = |name: &str| info.split_once(name)?.1.split([',', '\r']).next();
        info.contains("state=online") && offset(",offset=") == offset("master_repl_offset:")
    };
    until("the replica follows", has_all).await;

    let settings =
        Settings { lease_ttl_ms: LEASE_MS, lease_ms_max: LEASE_MS, ..Settings::default() };
    let nodes = [address, replica.address()].map(|address| format!("redis://{address}"));
    let redis = options_for(nodes.to_vec(), Duration::from_secs(4));
    let store = open_with(&redis, settings).await;
    let id = store.create(1).await.unwrap().ids[0];
    let created_at = store.get(&id).await.unwrap().created_at;
    let first = store.lease(Leasing::default()).await.unwrap();
    until("the replica has the lease", has_all).await;
    primary.process.kill().unwrap();
    assert_eq!(replica.ask(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");

    let second = answered(async || store.lease(Leasing::default()).await).await.unwrap();
    assert!(second.id == id && second.generation > first.generation);
    assert!(second.since >= first.until, "{second:?} beside {first:?}");
    assert_eq!(store.get(&id).await.unwrap().created_at, created_at);
    let stale = Renewal { fence: Fence::One(first.generation), lease_ms: None };
    assert_eq!(store.renew(&id, stale).await, Err(Error::Stale));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_behind_turns_nothing_back() {
    a_failover_turns_nothing_back(-3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_ahead_turns_nothing_back() {
    a_failover_turns_nothing_back(3).await;
}
