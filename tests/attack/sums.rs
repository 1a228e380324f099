//! Sums: the counts of each answer of `GET /stats` add up, whatever clients do.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Stats};
use crate::over::SetOnDrop;
use crate::server::Server;

const TIME: Duration = Duration::from_secs(3);
/// Fewer keys than clients ask for at a time, so that hardly any is free.
const KEYS: usize = 60;
/// Enough to keep all threads of the server busy.
const CLIENTS: usize = 8;
/// How many requests are sent at once.
const BATCH: usize = 20;

/// How a client gives keys back.
#[derive(Clone, Copy)]
enum End {
    /// It releases most, deletes some, and keeps the rest until their leases run out.
    Release,
    /// It releases them with a cool-down, which the hot path does not serve.
    Rest,
}

impl End {
    /// A request that ends the lease of a key, or does not. The kind depends on the number.
    fn request(self, number: u32, key: &str) -> String {
        match self {
            Self::Rest => format!("PUT /keys/{key}?cooldown=1ms"),
            Self::Release if number.is_multiple_of(53) => format!("DELETE /keys/{key}"),
            Self::Release if number.is_multiple_of(19) => format!("GET /keys/{key}"),
            Self::Release => format!("PUT /keys/{key}"),
        }
    }
}

/// Gives keys back and leases new ones, until `is_over`. It asks for a new key right behind each that it
/// gives back: so hardly any is free, and a free one is leased at once.
fn churn(mut client: Client, end: End, is_over: &AtomicBool) {
    let (mut keys, mut number) = (Vec::<String>::new(), 0);
    while !is_over.load(Relaxed) {
        let mut requests = String::new();
        for place in 0..BATCH {
            number += 1;
            if let Some(key) = keys.get(place) {
                requests += &end.request(number, key);
                requests += " HTTP/1.1\r\nHost: a\r\n\r\n";
            }
            requests += "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";
        }
        let answers = client.pipeline(&requests, BATCH + keys.len());
        // Every second answer has none.
        let leased = answers.iter().filter(|answer| answer.body.starts_with(r#"{"keyId":"#));
        keys =
            leased.filter_map(|answer| Some(answer.body.split('"').nth(3)?.to_owned())).collect();
    }
}

/// Replaces keys that die.
fn refill(mut client: Client, is_over: &AtomicBool) {
    while !is_over.load(Relaxed) {
        let keys = client.stats().number("keys");
        let missing = KEYS.saturating_sub(usize::try_from(keys).unwrap());
        if missing > 0 {
            client.send("POST", "/keys", &format!("{{\"count\":{missing}}}")).unwrap();
        }
    }
}

#[test]
fn the_counts_of_each_answer_add_up() {
    let server = Server::start(&["--key-ttl", "100ms", "--lease-ttl", "10ms"]);
    let (is_over, mut looks, mut wrongs) = (AtomicBool::new(false), 0, Vec::new());
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| churn(server.connect(), End::Release, &is_over));
        }
        scope.spawn(|| churn(server.connect(), End::Rest, &is_over));
        scope.spawn(|| refill(server.connect(), &is_over));
        let _end = SetOnDrop(&is_over);
        let (begin, mut client) = (Instant::now(), server.connect());
        let requests = "GET /stats HTTP/1.1\r\nHost: a\r\n\r\n".repeat(BATCH);
        while begin.elapsed() < TIME {
            for answer in client.pipeline(&requests, BATCH) {
                let stats = Stats::of(&answer);
                looks += 1;
                wrongs.extend(stats.wrong_sum().map(|rule| (rule, stats)));
            }
        }
    });
    let last = server.connect().stats();
    println!("{looks} looks, {} wrong; {last:?}", wrongs.len());
    for name in ["created", "expired", "deleted", "leased", "released", "leaseTimeouts"] {
        assert!(last.number(name) > 100, "{name}: {last:?}");
    }
    assert!(looks > 1000, "only {looks}");
    assert!(wrongs.is_empty(), "{} of {looks} answers, such as {:?}", wrongs.len(), wrongs[0]);
}
