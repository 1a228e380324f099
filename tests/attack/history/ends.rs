//! Ends: requests that keep a key alive or renew a lease reach the server at the very moment at which
//! it ends, while a second client looks at it. What was seen to be over must stay over.
//!
//! A server that looks at its clock before it has the record to itself may be held up in between, and
//! then act as of a time that has passed. That takes luck: so clients learn when to send, by what was
//! answered before, and try thousands of ends.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::SLACK_NS;
use super::clients::quoted_ids;
use super::plan::Request;
use crate::checker::check;
use crate::checker::record::{History, Operation, Turn, What};
use crate::client::Client;
use crate::server::Server;

/// How many ends are tried for each of both kinds.
const ENDS: u32 = 2000;
/// About how long it is from one end to the next.
const INTERVAL: Duration = Duration::from_micros(1500);
/// How many leases end one after the other that began together.
const LEASES_AT_ONCE: u32 = 100;
/// How long keys live, or leases last, until the end that is tried: at least that.
const TTL_MS: u32 = 150;
/// How many looks are sent at once: as many as the server answers in the time by which clients miss the
/// end.
const LOOKS: usize = 300;
/// For how long leases are renewed: they do not end again.
const RENEWED_MS: u32 = 60_000;
/// By how much a client comes earlier or later if it missed the moment.
const STEP_NS: i64 = 4000;

/// What is about to end, at a time that the server has announced.
#[derive(Clone, Copy)]
struct End {
    key: Uuid,
    at: SystemTime,
    /// The generation of the lease, if it is not the key that ends.
    lease: Option<u64>,
}

/// The clients' clock.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("no test takes that long")
    }
}

/// A client whose requests meet ends.
struct Contender {
    client: Client,
    clock: Clock,
    /// How long before an end it sends.
    lead_ns: i64,
    sequences: u64,
    operations: Vec<Operation>,
}

impl Contender {
    fn new(server: &Server, clock: Clock) -> Self {
        let client = server.connect();
        Self { client, clock, lead_ns: 100_000, sequences: 0, operations: Vec::new() }
    }

    /// Sends requests at once, and returns the operations; `None` if it is too late for that.
    fn meet(&mut self, end: End, requests: &[Request]) -> Option<&[Operation]> {
        let mut text = String::new();
        for request in requests {
            request.write(None, &mut text);
        }
        let lead = Duration::from_nanos(self.lead_ns.try_into().unwrap_or(0));
        let mut is_late = true;
        while let Ok(left) = (end.at - lead).duration_since(SystemTime::now()) {
            is_late = false;
            // A thread wakes up late by about that.
            thread::sleep(left.saturating_sub(Duration::from_micros(100)));
        }
        if is_late {
            return None;
        }
        let invoked_ns = self.clock.now_ns();
        self.client.stream.write_all(text.as_bytes()).unwrap();
        self.sequences += u64::from(requests.len() > 1);
        let before = self.operations.len();
        for (place, request) in (0..).zip(requests) {
            let answer = self.client.read().unwrap();
            let turn = match requests.len() {
                1 => Turn::default(),
                _ => Turn { sequence: self.sequences, place },
            };
            let ended_ns = self.clock.now_ns();
            self.operations.push(request.answered(turn, invoked_ns, ended_ns, &answer));
        }
        Some(&self.operations[before..])
    }

    /// Looks at what ends. Returns how often that was seen to end.
    fn watch(&mut self, ends: Receiver<End>) -> usize {
        let mut seen = 0;
        for end in ends {
            let Some(looks) = self.meet(end, &vec![Request::look(end.key); LOOKS]) else {
                continue;
            };
            let first = looks.iter().position(is_over);
            seen += usize::from(first.is_some_and(|first| first > 0));
            self.lead_ns += match first {
                Some(0) => STEP_NS,
                Some(_) => 0,
                // Or it did not end at all, because the extender was in time.
                None => -STEP_NS / 4,
            };
        }
        seen
    }

    /// Tries to prevent ends at the last moment. Returns how often it did.
    fn extend(&mut self, ends: Receiver<End>) -> usize {
        let mut extended = 0;
        for end in ends {
            let request = match end.lease {
                None => Request::keep_alive(end.key),
                Some(generation) => Request::renew(end.key, generation, RENEWED_MS),
            };
            let Some(done) = self.meet(end, &[request]) else { continue };
            let is_late = is_over(&done[0]);
            extended += usize::from(!is_late);
            self.lead_ns += if is_late { STEP_NS } else { -STEP_NS };
        }
        extended
    }
}

/// Whether an answer shows that what was asked for has ended.
fn is_over(operation: &Operation) -> bool {
    let is_free = operation.what == What::Look && !operation.is_blocked;
    // A key that never was leased is free while it lives.
    !operation.is_done() || is_free && operation.generation > Some(0)
}

/// Creates or leases what will end, announces it to the clients, and returns the operations.
type Maker = fn(&mut Client, Clock, &[Sender<End>]) -> Vec<Operation>;

fn announce(clients: &[Sender<End>], key: Uuid, at: Option<&str>, lease: Option<u64>) {
    let at = at.and_then(|at| humantime::parse_rfc3339(at).ok()).expect("a time");
    for client in clients {
        client.send(End { key, at, lease }).expect("the client goes on to the last end");
    }
}

/// Keys, one after the other.
fn make_keys(client: &mut Client, clock: Clock, clients: &[Sender<End>]) -> Vec<Operation> {
    let begin = Instant::now();
    let create = |number| {
        let due = begin + INTERVAL * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let invoked_ns = clock.now_ns();
        let answer = client.send("POST", "/keys", "").unwrap();
        let (turn, ended_ns) = (Turn::default(), clock.now_ns());
        let mut creation = Request::create(1).answered(turn, invoked_ns, ended_ns, &answer);
        creation.key = quoted_ids(&answer.body).next().expect("a key");
        announce(clients, creation.key, answer.header("key-expires-at"), None);
        creation
    };
    (0..ENDS).map(create).collect()
}

/// Leases that are of different lengths.
fn make_leases(client: &mut Client, clock: Clock, clients: &[Sender<End>]) -> Vec<Operation> {
    // Some for the leases that begin while others have not yet ended.
    let create = Request::create((ENDS + 10 * LEASES_AT_ONCE).try_into().expect("a count"));
    let (mut text, mut operations) = (String::new(), Vec::new());
    create.write(None, &mut text);
    let invoked_ns = clock.now_ns();
    let answer = client.pipeline(&text, 1).remove(0);
    let creation = create.answered(Turn::default(), invoked_ns, clock.now_ns(), &answer);
    operations.extend(quoted_ids(&answer.body).map(|key| Operation { key, ..creation }));
    let lease = |number| {
        let length = Duration::from_millis(TTL_MS.into()) + INTERVAL * number;
        Request::lease(u32::try_from(length.as_millis()).expect("a short lease"))
    };
    let leases: Vec<_> = (0..LEASES_AT_ONCE).map(lease).collect();
    text.clear();
    for lease in &leases {
        lease.write(None, &mut text);
    }
    for _ in 0..ENDS / LEASES_AT_ONCE {
        let (begin, invoked_ns) = (Instant::now(), clock.now_ns());
        for (lease, answer) in leases.iter().zip(client.pipeline(&text, leases.len())) {
            let ended_ns = clock.now_ns();
            let lease = lease.answered(Turn::default(), invoked_ns, ended_ns, &answer);
            announce(clients, lease.key, answer.header("lease-expires-at"), lease.generation);
            operations.push(lease);
        }
        let next = begin + INTERVAL * LEASES_AT_ONCE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    operations
}

/// How often it is tried to have clients meet at ends: on a busy machine they come too late.
const TRIES: usize = 10;

/// Has clients meet at ends, until they have met at enough of them, and checks what they saw each time.
fn try_ends(options: &[&str], key_ttl_ms: u32, make: Maker) {
    let least = ENDS as usize / 50;
    let (mut seen, mut put_off, mut missed) = (0, 0, 0);
    for _ in 0..TRIES {
        let (seen_now, put_off_now) = try_once(options, key_ttl_ms, make);
        seen += seen_now;
        put_off += put_off_now;
        missed += ENDS as usize - put_off_now;
        if seen >= least && put_off >= least && missed >= least {
            return;
        }
    }
    panic!("the clients never meet: {seen} ends were seen, {put_off} put off, {missed} not");
}

/// Answers how many ends were seen and how many were put off, of [`ENDS`].
fn try_once(options: &[&str], key_ttl_ms: u32, make: Maker) -> (usize, usize) {
    let (server, clock) = (Server::start(options), Clock(Instant::now()));
    // Connections that come one after the other are served by different threads.
    let (mut watcher, mut extender) =
        (Contender::new(&server, clock), Contender::new(&server, clock));
    let (to_watcher, ends_to_see) = channel();
    let (to_extender, ends_to_extend) = channel();
    let (mut operations, seen, put_off) = thread::scope(|scope| {
        let see = scope.spawn(|| watcher.watch(ends_to_see));
        let extend = scope.spawn(|| extender.extend(ends_to_extend));
        let begun = make(&mut server.connect(), clock, &[to_watcher, to_extender]);
        (begun, see.join().unwrap(), extend.join().unwrap())
    });
    drop(server);
    operations.extend(watcher.operations.into_iter().chain(extender.operations));
    let found = check(&History { key_ttl_ms, slack_ns: SLACK_NS, operations, has_labels: false })
        .unwrap_or_else(|v| panic!("{v}"));
    println!("{ENDS} ends, of which {seen} were seen and {put_off} put off: {found:#?}");
    (seen, put_off)
}

#[test]
fn a_key_that_has_died_is_not_kept_alive() {
    try_ends(&["--key-ttl", "150ms"], TTL_MS, make_keys);
}

#[test]
fn a_lease_that_is_over_is_not_renewed() {
    try_ends(&["--lease-ttl", "1s", "--max-lease", "60s"], 300_000, make_leases);
}
