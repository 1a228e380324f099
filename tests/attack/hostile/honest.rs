//! Clients that use the API as intended, and check each answer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;

/// How many clients there are.
const CLIENTS: usize = 3;
/// Keys beside those that clients create: there is always one to lease, even if hostile clients take some.
const KEYS: usize = 10_000;
/// Long enough to leave the machine to the attackers.
const PAUSE: Duration = Duration::from_millis(2);
/// How many rounds make progress.
const ROUNDS: u64 = 10;
/// Far more than that takes.
const PATIENCE: Duration = Duration::from_secs(100);

/// What clients may meet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    /// Hostile clients lease whole pools: there may be no key.
    pub(crate) may_be_exhausted: bool,
    /// New connections may be refused: only those that exist are used.
    pub(crate) has_no_more_connections: bool,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    rounds: [AtomicU64; CLIENTS],
    /// Keys that one of the clients has leased.
    leased: Mutex<HashSet<String>>,
}

pub(crate) struct Honest {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Honest {
    pub(crate) fn start(address: SocketAddr, terms: Terms) -> Self {
        let answer = Client::to(address).send("POST", "/keys", &format!("{{\"count\":{KEYS}}}"));
        assert_eq!(answer.unwrap().status, 201);
        let shared = Arc::new(Shared::default());
        let threads = (0..CLIENTS).map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(address, terms, &shared, number))
        });
        Self { threads: threads.collect(), shared }
    }

    /// How many rounds were done, in all.
    pub(crate) fn rounds(&self) -> u64 {
        self.shared.rounds.iter().map(|rounds| rounds.load(SeqCst)).sum()
    }

    /// Waits until each client has done some more rounds.
    pub(crate) fn await_progress(&self) {
        let begin = Instant::now();
        let all: Vec<_> = self.shared.rounds.iter().map(|rounds| rounds.load(SeqCst)).collect();
        for (number, before) in all.into_iter().enumerate() {
            while self.shared.rounds[number].load(SeqCst) < before + ROUNDS {
                assert!(!self.threads[number].is_finished(), "an honest client has failed");
                assert!(begin.elapsed() < PATIENCE, "honest clients hang");
                thread::sleep(PAUSE);
            }
        }
    }

    /// Ends them; none may have failed.
    pub(crate) fn end(self) {
        self.shared.is_over.store(true, SeqCst);
        for thread in self.threads {
            thread.join().expect("an honest client has failed");
        }
    }
}

fn work(address: SocketAddr, terms: Terms, shared: &Shared, number: usize) {
    let mut client = Client::to(address);
    while !shared.is_over.load(SeqCst) {
        let done = shared.rounds[number].load(SeqCst);
        if done % 50 == 49 && !terms.has_no_more_connections {
            client = Client::to(address);
        }
        own_key(&mut client, if done.is_multiple_of(2) { "" } else { "{}" });
        lease(&mut client, terms, shared);
        shared.rounds[number].fetch_add(1, SeqCst);
        thread::sleep(PAUSE);
    }
}

/// Sends a request, and returns the body of the answer, which must have this status.
fn ask(client: &mut Client, method: &str, path: &str, body: &str, status: u16) -> String {
    let answer = client.send(method, path, body);
    let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    answer.body
}

fn key_of(body: &str) -> String {
    let id = body.strip_prefix(r#"{"keyId":""#).and_then(|rest| rest.strip_suffix(r#""}"#));
    id.unwrap_or_else(|| panic!("no key: {body}")).to_owned()
}

/// A key of the client's own, from its creation to its end.
fn own_key(client: &mut Client, body: &str) {
    let id = key_of(&ask(client, "POST", "/keys", body, 201));
    let (path, life) = (format!("/keys/{id}"), format!("/keepalive/{id}"));
    let info = ask(client, "GET", &path, "", 200);
    assert!(info.contains(r#""isBlocked":"#) && info.contains(r#""createdAt":""#), "{info}");
    assert_eq!(ask(client, "PUT", &life, "", 200), "{}");
    assert_eq!(ask(client, "DELETE", &path, "", 200), "{}");
    assert_eq!(ask(client, "GET", &path, "", 404), "{}");
}

/// A lease that no other client has, and its end.
fn lease(client: &mut Client, terms: Terms, shared: &Shared) {
    let answer = client.send("GET", "/keys", "").expect("an answer to GET /keys");
    if answer.status == 404 && terms.may_be_exhausted {
        return assert_eq!(answer.body, "{}");
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = key_of(&answer.body);
    assert!(shared.leased.lock().unwrap().insert(id.clone()), "{id} is leased twice");
    // It may be the own key of another client, and gone with it.
    let path = format!("/keys/{id}");
    let info = client.send("GET", &path, "").expect("an answer to GET /keys/:id");
    assert!(info.status == 404 || info.body.contains(r#""isBlocked":true"#), "{info:?}");
    shared.leased.lock().unwrap().remove(&id);
    let released = client.send("PUT", &path, "").expect("an answer to PUT /keys/:id");
    assert!(released.status == 200 || info.status == 404 || released.status == 404);
}
