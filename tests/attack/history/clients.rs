//! Clients that race, and record what they see.

use std::io::{self, Write};
use std::mem::take;
use std::net::{Shutdown, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::known_keys::KnownKeys;
use super::plan::{Held, Request};
use super::values::Values;
use crate::checker::record::{LOST, NEVER, Operation, Turn, What};
use crate::client::{Answer, Client};

/// What clients do, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// About how many keys there are.
    pub(crate) keys: usize,
    pub(crate) clients: u64,
    pub(crate) operations: u64,
    /// How many requests are sent at once at most.
    pub(crate) burst_max: usize,
    /// One in so many requests is a deletion; releases of keys that another client may have leased are
    /// ten times as many.
    pub(crate) deletes_one_in: u32,
    /// Whether requests for a key may be given up before they are answered.
    pub(crate) hangs_up: bool,
    /// Whether keys have values and labels, and are in a pool with a name.
    pub(crate) is_own: bool,
    pub(crate) key_ttl_ms: u32,
    pub(crate) lease_ttl_ms: u32,
}

/// What the clients of one server share.
pub(crate) struct World {
    /// Of the server, or of several with the same pools.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    started: Instant,
    /// Some of the keys that exist.
    pub(super) known_keys: Mutex<KnownKeys>,
    /// Those of keys of one's own.
    pub(super) values: Option<Values>,
    /// Whether a client is about to create keys.
    is_creating: AtomicBool,
    done: AtomicU64,
    /// The name of the next sequence of requests.
    next_sequence: AtomicU64,
    /// How many clients are still running.
    racers: AtomicU64,
    /// Whether connections may break.
    pub(crate) is_stopping: AtomicBool,
    /// Whether clients come back to a server that was gone, as it starts again.
    pub(crate) is_restarted: bool,
    /// Ends the race, whatever was done.
    pub(crate) is_over: AtomicBool,
    /// Whether what is asked for at once on one connection is done in that order.
    pub(crate) is_ordered: bool,
    /// Whether the store of the servers may fail to answer.
    pub(crate) may_fail: bool,
}

impl World {
    pub(crate) fn new(addresses: Vec<SocketAddr>, scenario: Scenario, seed: u64) -> Self {
        Self {
            addresses,
            scenario,
            seed,
            started: Instant::now(),
            known_keys: Mutex::default(),
            values: scenario.is_own.then(Values::default),
            is_creating: AtomicBool::new(false),
            done: AtomicU64::new(0),
            next_sequence: AtomicU64::new(1),
            racers: AtomicU64::new(scenario.clients),
            is_stopping: AtomicBool::new(false),
            is_restarted: false,
            is_over: AtomicBool::new(false),
            is_ordered: true,
            may_fail: false,
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("no test takes that long")
    }

    /// A name for requests that are sent at once: see [`Turn`].
    pub(super) fn next_sequence(&self) -> u64 {
        if self.is_ordered { self.next_sequence.fetch_add(1, Relaxed) } else { 0 }
    }

    /// Whether there were fewer operations than that, and a client is left to do more.
    pub(crate) fn is_at_work(&self, operations: u64) -> bool {
        let is_missing = self.done.load(Relaxed) < operations && !self.is_over.load(Relaxed);
        is_missing && self.racers.load(Relaxed) > 0
    }

    /// How many keys are missing, unless a client is about to create them.
    fn missing(&self) -> Option<usize> {
        let missing = self.scenario.keys.saturating_sub(self.known_keys.lock().unwrap().len());
        (missing > 0 && !self.is_creating.swap(true, Relaxed)).then_some(missing)
    }
}

/// How a connection is cut.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The client sends no more, and discards answers until the server closes the connection.
    HalfClose,
    /// The client closes the connection.
    Abandon,
}

/// Before a client comes back to a server that is gone, or starting.
const PAUSE: Duration = Duration::from_millis(1);

/// One client.
pub(crate) struct Racer<'a> {
    pub(super) world: &'a World,
    address: SocketAddr,
    pub(super) rng: StdRng,
    pub(super) held: Vec<Held>,
    pub(super) past: Vec<Held>,
    operations: Vec<Operation>,
    connection: Option<Client>,
    /// Only requests that are answered ahead of the router are sent on the connection.
    is_hot: bool,
    text: String,
}

impl<'a> Racer<'a> {
    pub(crate) fn new(world: &'a World, number: u64) -> Self {
        Self {
            world,
            address: *world
                .addresses
                .iter()
                .cycle()
                .nth(usize::try_from(number).expect("few"))
                .expect("one"),
            rng: StdRng::seed_from_u64(world.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            held: Vec::new(),
            past: Vec::new(),
            operations: Vec::new(),
            connection: None,
            is_hot: false,
            text: String::new(),
        }
    }

    /// Sends random requests until all clients together have done enough, or the server has stopped
    /// as it should.
    pub(crate) fn race(mut self) -> Vec<Operation> {
        while self.world.is_at_work(self.world.scenario.operations) {
            let before = self.operations.len();
            if self.burst().is_err() {
                assert!(self.may_hang_up(), "the server does not let clients in");
                if !self.world.is_restarted {
                    break;
                }
                self.connection = None;
                thread::sleep(PAUSE);
            }
            let done = self.operations.len() - before;
            self.world.done.fetch_add(done as u64, Relaxed);
        }
        take(&mut self.operations)
    }

    /// Sends some requests at once and reads the answers, or not.
    fn burst(&mut self) -> io::Result<()> {
        if self.connection.is_none() || self.rng.random_ratio(1, 100) {
            self.connection = Some(Client::try_to(self.address)?);
            self.is_hot = self.rng.random();
        }
        let is_cut = self.rng.random_ratio(1, 100);
        let cut = is_cut.then(|| if self.rng.random() { Cut::HalfClose } else { Cut::Abandon });
        let size = if self.rng.random() { 1 } else { self.world.scenario.burst_max };
        let size = self.rng.random_range(1..=size);
        let mut requests = Vec::with_capacity(size);
        if let Some(count) = self.world.missing() {
            requests.push(Request::create(count));
            self.is_hot = false;
        }
        // Such a run is leased as a group.
        let only_leases = self.is_hot && cut.is_none() && self.rng.random_ratio(1, 10);
        while requests.len() < size {
            requests.push(if only_leases {
                self.plan_lease(true, false)
            } else {
                self.plan(self.is_hot, size == 1, cut == Some(Cut::Abandon))
            });
        }
        self.text.clear();
        for request in &requests {
            request.write(self.world.values.as_ref(), &mut self.text);
        }
        self.exchange(&requests, cut)
    }

    fn exchange(&mut self, requests: &[Request], cut: Option<Cut>) -> io::Result<()> {
        let mut connection = self.connection.take().expect("connected");
        let invoked_ns = self.world.now_ns();
        // As much as the server takes.
        let sent = connection.stream.write_all(self.text.as_bytes());
        assert!(sent.is_ok() || self.may_hang_up(), "the server hung up");
        let read = match cut {
            None => requests.len(),
            Some(_) => self.rng.random_range(0..=requests.len()),
        };
        if cut == Some(Cut::HalfClose) {
            // This fails if the server has gone, which the reads below notice.
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
        let sequence = self.world.next_sequence();
        let turn = |place| Turn { sequence, place };
        for (place, (number, request)) in (0..).zip(requests.iter().enumerate()) {
            let answer =
                if number < read { connection.read() } else { Err(io::ErrorKind::Other.into()) };
            match answer {
                Ok(answer) => self.note(request, turn(place), invoked_ns, &answer),
                Err(error) => {
                    assert!(number >= read || self.may_hang_up(), "the server hung up");
                    let ended_ns = match cut {
                        Some(Cut::Abandon) => {
                            if self.rng.random() {
                                connection.read_beginning();
                            }
                            NEVER
                        }
                        Some(Cut::HalfClose) => self.end_of(&mut connection),
                        // The server has hung up, and nothing is on its way but to a store.
                        None if error.kind() == io::ErrorKind::UnexpectedEof
                            && !self.world.may_fail =>
                        {
                            self.world.now_ns()
                        }
                        None => NEVER,
                    };
                    for (place, request) in (place..).zip(&requests[number..]) {
                        if request.what == What::Create {
                            self.world.is_creating.store(false, Relaxed);
                        }
                        self.operations.push(request.operation(turn(place), invoked_ns, ended_ns));
                    }
                    return if cut.is_some() { Ok(()) } else { Err(error) };
                }
            }
        }
        if cut.is_none() {
            self.connection = Some(connection);
        }
        Ok(())
    }

    fn may_hang_up(&self) -> bool {
        self.world.is_stopping.load(Relaxed)
    }

    /// When the server has hung up.
    fn end_of(&self, connection: &mut Client) -> u64 {
        let end = io::copy(&mut connection.stream, &mut io::sink());
        // What was asked of a store may still be on its way.
        if end.is_ok() && !self.world.may_fail { self.world.now_ns() } else { NEVER }
    }

    fn note(&mut self, request: &Request, turn: Turn, invoked_ns: u64, answer: &Answer) {
        let mut operation = request.answered(turn, invoked_ns, self.world.now_ns(), answer);
        let is_known = match (request.what, answer.status) {
            (What::Create, 201) => {
                self.world.is_creating.store(false, Relaxed);
                for key in quoted_ids(&answer.body) {
                    operation.key = key;
                    self.operations.push(operation);
                    self.remember(key);
                }
                return;
            }
            (What::Lease, 200) => {
                let generation = operation.generation.expect("a lease has a generation");
                if let Some(values) = &self.world.values {
                    values.check(operation.key, answer);
                }
                self.note_lease(operation.key, generation, invoked_ns, operation.ms);
                self.remember(operation.key);
                true
            }
            (What::Renew, 200) => {
                self.note_renewal(&operation);
                true
            }
            (what, 503) if self.world.may_fail && answer.body.contains("/unavailable\"") => {
                if what == What::Create {
                    self.world.is_creating.store(false, Relaxed);
                }
                // Nobody knows what has become of it. Most of the time it would be the same at once.
                thread::sleep(PAUSE);
                (operation.status, operation.ended_ns) = (LOST, NEVER);
                true
            }
            (what, 503) if self.world.is_restarted => {
                if what == What::Create {
                    self.world.is_creating.store(false, Relaxed);
                }
                ["/starting\"", "/stopping\""].iter().any(|why| answer.body.contains(why))
            }
            (What::Lease, 503) => self.may_hang_up(),
            (What::Lease, 404) | (_, 200) => true,
            (_, 404) => {
                self.forget(request.key);
                true
            }
            (What::Renew, 409) => request.fence.is_none(),
            (_, 412) => request.fence.is_some(),
            _ => false,
        };
        assert!(is_known, "{request:?}: {answer:?}");
        self.operations.push(operation);
    }

    /// Lets all clients know of a key.
    fn remember(&self, key: Uuid) {
        self.world.known_keys.lock().unwrap().add(key);
    }

    fn forget(&self, key: Uuid) {
        self.world.known_keys.lock().unwrap().remove(key);
    }
}

impl Drop for Racer<'_> {
    fn drop(&mut self) {
        self.world.racers.fetch_sub(1, Relaxed);
    }
}

/// The ids in a body.
pub(super) fn quoted_ids(body: &str) -> impl Iterator<Item = Uuid> {
    body.split('"').filter(|part| part.len() == 36).map(|id| id.parse().expect("an id"))
}
