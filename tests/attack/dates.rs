//! Dates: no lease begins before its key was created, or before the key's last lease was over.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::client::Answer;
use crate::over::SetOnDrop;
use crate::server::Server;

/// For how long keys are leased.
const TIME: Duration = Duration::from_secs(2);
/// How many leases each client shall get, if it takes longer.
const LEASES: usize = 2000;
/// How long that may take at most.
const PATIENCE: Duration = Duration::from_mins(1);
/// Enough to keep all threads of the server busy.
const CLIENTS: usize = 4;
/// How many requests are sent at once.
const BATCH: usize = 100;

/// A lease, as the answer to its request shows it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lease {
    key: String,
    generation: u64,
    ends: SystemTime,
}

impl Lease {
    /// `None` if no key was free.
    fn of(answer: &Answer) -> Option<Self> {
        let key = answer.body.split('"').nth(3)?.to_owned();
        let tag = answer.header("etag").expect("a tag").trim_matches('"');
        let generation = tag.parse().expect("a generation");
        Some(Self { key, generation, ends: date(answer.header("lease-expires-at")) })
    }
}

fn date(text: Option<&str>) -> SystemTime {
    text.and_then(|text| humantime::parse_rfc3339(text).ok()).expect("a date")
}

/// The leases of clients that lease as fast as they can.
fn lease_all(server: &Server) -> Vec<Lease> {
    let lease = || {
        let (mut client, begin, mut leases) = (server.connect(), Instant::now(), Vec::new());
        let requests = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n".repeat(BATCH);
        while begin.elapsed() < TIME || leases.len() < LEASES {
            assert!(begin.elapsed() < PATIENCE, "only {} leases", leases.len());
            leases.extend(client.pipeline(&requests, BATCH).iter().filter_map(Lease::of));
        }
        leases
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(lease)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn no_lease_begins_before_the_last_one_of_its_key_is_over() {
    const LENGTH: Duration = Duration::from_millis(5);
    let server = Server::start(&["--lease-ttl", "5ms"]);
    let created = server.connect().send("POST", "/keys", r#"{"count":2000}"#).unwrap();
    assert_eq!(created.status, 201);
    let mut leases = lease_all(&server);
    leases.sort_unstable();
    let follow = leases.windows(2).filter(|pair| pair[0].key == pair[1].key);
    let (mut followed, mut early) = (0, Vec::new());
    for pair in follow {
        followed += 1;
        if pair[1].ends - LENGTH < pair[0].ends {
            early.push(pair);
        }
    }
    println!("{followed} leases follow others, {} of them too early", early.len());
    assert!(followed > LEASES, "only {followed}");
    assert!(early.is_empty(), "{} of {followed} leases, such as {:?}", early.len(), early[0]);
}

#[test]
fn no_lease_begins_before_its_key_was_created() {
    let (server, is_over) = (Server::start(&[]), AtomicBool::new(false));
    let create = || {
        let one = "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n{\"count\":10}";
        let (mut client, requests) = (server.connect(), one.repeat(20));
        while !is_over.load(Relaxed) {
            let answers = client.pipeline(&requests, 20);
            assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        }
    };
    let leases = thread::scope(|scope| {
        let _end = SetOnDrop(&is_over);
        scope.spawn(create);
        lease_all(&server)
    });
    let (mut client, mut early) = (server.connect(), Vec::new());
    for leases in leases.chunks(BATCH) {
        let show = |lease: &Lease| format!("GET /keys/{} HTTP/1.1\r\nHost: a\r\n\r\n", lease.key);
        let requests: String = leases.iter().map(show).collect();
        for answer in client.pipeline(&requests, leases.len()) {
            let shown: Value = serde_json::from_str(&answer.body).unwrap();
            if date(shown["blockedAt"].as_str()) < date(shown["createdAt"].as_str()) {
                early.push(shown);
            }
        }
    }
    println!("{} keys, {} of them leased before their creation", leases.len(), early.len());
    assert!(early.is_empty(), "{} of {} keys, such as {}", early.len(), leases.len(), early[0]);
}
