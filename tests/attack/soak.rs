//! Soak: mixed load at full rate for a chosen time. Memory stays flat, the indexes follow
//! the keys, and what the server counts is what the clients saw.
//!
//! `SOAK_SECONDS=600 cargo test --release --test attack soak -- --nocapture`

use std::fmt::Write as _;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::client::{Answer, Client, Stats};
use crate::engine::{Engine, Node};
use crate::server::Server;

const OPTIONS: &[&str] = &["--key-ttl", "2s", "--lease-ttl", "300ms"];
const CLIENTS: u64 = 8;
/// About how many keys live at a time.
const KEYS: usize = 20_000;
const BATCH: usize = 16;
/// More than a client can use before some of the leases are over.
const HELD_MAX: usize = 3000;
/// Memory may grow by so much from the second third of the time to the last.
const GROWTH_BYTES_MAX: u64 = 6_000_000;

/// What one client, or all clients together, have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    created: u64,
    leased: u64,
    released: u64,
    deleted: u64,
    stale_refusals: u64,
    requests: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.created += more.created;
        self.leased += more.leased;
        self.released += more.released;
        self.deleted += more.deleted;
        self.stale_refusals += more.stale_refusals;
        self.requests += more.requests;
    }
}

/// A client: it creates keys as fast as they die, and leases many more than it gives back.
struct Worker {
    client: Client,
    rng: SmallRng,
    seen: Seen,
    /// Keys it has leased, with their tags; some of the leases are over.
    held: Vec<(String, String)>,
}

impl Worker {
    fn work_until(mut self, is_over: &AtomicBool) -> Seen {
        let pause = Duration::from_secs(2) / u32::try_from(KEYS / 500).unwrap();
        let mut creates_at = Instant::now();
        while !is_over.load(Relaxed) {
            // All clients together create as many keys as die.
            if Instant::now() >= creates_at {
                creates_at += pause * u32::try_from(CLIENTS).unwrap();
                self.create(500);
            }
            self.lease();
            self.use_and_give_back();
            self.held.drain(..self.held.len().saturating_sub(HELD_MAX));
        }
        self.seen
    }

    fn create(&mut self, count: u64) {
        let answer = self.client.send("POST", "/keys", &format!("{{\"count\":{count}}}")).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        self.seen.created += count;
        self.seen.requests += 1;
    }

    fn lease(&mut self) {
        for answer in self.pipeline(&"GET /keys HTTP/1.1\r\nHost: a\r\n\r\n".repeat(BATCH), BATCH) {
            match answer.status {
                200 => {
                    let id = answer.body.split('"').nth(3).expect("an id").to_owned();
                    self.held.push((id, answer.header("etag").expect("a tag").to_owned()));
                    self.seen.leased += 1;
                }
                404 => assert_eq!(answer.body, "{}"),
                _ => panic!("{answer:?}"),
            }
        }
    }

    /// Releases some of the leases. The rest end by time, or with their keys.
    fn use_and_give_back(&mut self) {
        let (mut requests, mut kinds) = (String::new(), Vec::new());
        for _ in 0..BATCH.min(self.held.len()) {
            let place = self.rng.random_range(0..self.held.len());
            let kind = self.rng.random_range(0..10);
            // However fast the server is, most keys must live until they die.
            let kind = if kind == 0 && self.has_deleted_enough() { 5 } else { kind };
            let (id, tag) = &self.held[place];
            let (method, path) = match kind {
                0 => ("DELETE", format!("/keys/{id}")),
                1 => ("PUT", format!("/keepalive/{id}")),
                2 => ("GET", format!("/keys/{id}")),
                3 => ("PUT", format!("/keys/{id}/lease")),
                4 => ("PUT", format!("/keys/{id}?cooldown=100ms")),
                _ => ("PUT", format!("/keys/{id}")),
            };
            write!(requests, "{method} {path} HTTP/1.1\r\nHost: a\r\nIf-Match: {tag}\r\n\r\n")
                .unwrap();
            kinds.push(kind);
            if ![1, 2, 3].contains(&kind) {
                self.held.swap_remove(place);
            }
        }
        let answers = self.pipeline(&requests, kinds.len());
        for (kind, answer) in kinds.into_iter().zip(answers) {
            match (kind, answer.status) {
                (0, 200) => self.seen.deleted += 1,
                (4.., 200) => self.seen.released += 1,
                (0 | 3.., 412) => self.seen.stale_refusals += 1,
                (1..=3, 200) | (_, 404) => {}
                _ => panic!("{kind}: {answer:?}"),
            }
        }
    }

    fn has_deleted_enough(&self) -> bool {
        self.seen.deleted > self.seen.created / 4
    }

    fn pipeline(&mut self, requests: &str, count: usize) -> Vec<Answer> {
        self.seen.requests += count as u64;
        self.client.pipeline(requests, count)
    }
}

/// What is true at every moment, however busy the server is.
fn check_bounds(stats: &Stats) {
    let n = |name| stats.number(name);
    assert_eq!(stats.wrong_sum(), None, "{stats:?}");
    // Not counted at the same moment as the keys.
    let (keys, slack) = (n("keys"), 10_000);
    assert!(n("lifeEntries").abs_diff(keys) <= slack, "{stats:?}");
    assert!(n("blockEntries") <= keys + slack, "{stats:?}");
    // At most twice the live ones and 32 a shard.
    assert!(n("staleHints") <= 2 * keys + 32 * 256 + slack, "{stats:?}");
}

/// Looks at the server now and then until the time is over, and returns how much memory it had.
fn watch(server: &Server, time: Duration, check: &dyn Fn(&Stats)) -> Vec<u64> {
    let (start, mut client, mut resident) = (Instant::now(), server.connect(), Vec::new());
    while start.elapsed() < time {
        check(&client.stats());
        resident.push(server.resident_bytes());
        thread::sleep(Duration::from_millis(50));
    }
    resident
}

/// How long a soak lasts.
fn seconds() -> u64 {
    std::env::var("SOAK_SECONDS").map_or(15, |text| text.parse().expect("seconds"))
}

#[test]
fn soak_memory_is_flat_and_counts_add_up() {
    let last = soak(&Server::start(OPTIONS), seconds(), &check_bounds);
    let n = |name| last.number(name);
    assert_eq!([n("lifeEntries"), n("blockEntries")], [0; 2], "{last:?}");
}

/// The same with the pools in a cluster, which keeps no more of dead keys than the server does.
#[test]
fn soak_memory_of_a_store_is_flat_and_counts_add_up() {
    let engine = Engine::cluster(Duration::from_mins(5));
    let hosts = engine.urls().join(",").replace("redis://", "");
    let store = format!("redis://{hosts}");
    let of_store = ["--store", &store, "--store-timeout", "60s", "--store-replicas-ack", "1"];
    let server = Server::start(&[OPTIONS, &of_store].concat());
    // What each shard has from the beginning.
    let mut client = server.connect();
    client.stats();
    let kept = |node: &Node| node.ask_number(&["DBSIZE"]);
    let before: u64 = engine.nodes[..3].iter().map(kept).sum();
    soak(&server, seconds().div_ceil(2), &|stats| assert_eq!(stats.wrong_sum(), None, "{stats:?}"));
    let after: u64 = engine.nodes[..3].iter().map(kept).sum();
    // The last call of the server to each shard.
    assert!(after <= before + 64, "{before} keys of the engine, then {after}");
}

/// Lets clients work for a while, and waits until all keys are dead.
fn soak(server: &Server, seconds: u64, check: &dyn Fn(&Stats)) -> Stats {
    let (is_over, mut seen) = (AtomicBool::new(false), Seen::default());
    let resident = thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let (client, rng) = (server.connect(), SmallRng::seed_from_u64(seed));
                let worker = Worker { client, rng, seen: Seen::default(), held: Vec::new() };
                scope.spawn(|| worker.work_until(&is_over))
            })
            .collect();
        let resident = watch(server, Duration::from_secs(seconds), check);
        is_over.store(true, Relaxed);
        for worker in workers {
            seen += worker.join().unwrap();
        }
        resident
    });

    // All keys die, and nothing is left of them.
    let mut client = server.connect();
    let last = loop {
        let stats = client.stats();
        check(&stats);
        if stats.number("keys") == 0 {
            break stats;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let n = |name| last.number(name);
    println!("{seconds} s: {seen:?}\n{last:?}");
    let counted = [n("created"), n("leased"), n("released"), n("deleted"), n("staleRefusals")];
    let expected = [seen.created, seen.leased, seen.released, seen.deleted, seen.stale_refusals];
    assert_eq!(counted, expected, "created, leased, released, deleted, refused");
    assert_eq!([n("free"), n("blocked"), n("cooling")], [0; 3], "{last:?}");
    // All of that did happen, as often as a busy machine allows.
    for name in ["expired", "deleted", "leaseTimeouts", "leasesLost", "staleRefusals"] {
        assert!(n(name) > 20, "{name}: {last:?}");
    }

    let third = resident.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().expect("it was looked at");
    let (earlier, later) = (most(&resident[third..2 * third]), most(&resident[2 * third..]));
    println!("resident: {earlier} bytes, later {later}; {} in the end", server.resident_bytes());
    assert!(later <= earlier + GROWTH_BYTES_MAX, "memory grows: {earlier}, then {later} bytes");
    last
}
