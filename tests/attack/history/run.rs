//! One history: a server, clients that race for a while, and a look at all keys that are left.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::SLACK_NS;
use super::clients::{Racer, Scenario, World};
use super::plan::{COOLDOWN_MS_MAX, POOL, Request};
use super::values::Values;
use crate::checker::record::{History, NEVER, Operation, Turn, What, ns};
use crate::client::Client;
use crate::server::Server;

/// The longest lease, with which all keys that are left are leased.
const LAST_LEASE_MS: u32 = 10_000;
/// How many requests are sent at once when clients have ended.
const BATCH: usize = 50;
/// How long the server may take to close connections.
const PATIENCE: Duration = Duration::from_secs(20);

/// The options of a server for a scenario.
pub(crate) fn options(scenario: &Scenario) -> Vec<String> {
    let ms = |name: &str, ms: u32| [format!("--{name}"), format!("{ms}ms")];
    [
        ms("key-ttl", scenario.key_ttl_ms),
        ms("lease-ttl", scenario.lease_ttl_ms),
        ms("max-lease", LAST_LEASE_MS),
    ]
    .concat()
}

/// Starts a server for a scenario.
pub(crate) fn start(scenario: &Scenario) -> Server {
    let options = options(scenario);
    Server::start(&options.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Lets clients race while `meanwhile` runs, and leases all keys that are left when all leases are
/// over.
pub(crate) fn record(
    scenario: Scenario,
    seed: u64,
    meanwhile: impl FnOnce(&Server, &World),
) -> History {
    let server = start(&scenario);
    // Once it has answered, all its threads have the sockets of their own.
    let mut first = server.connect();
    assert_eq!(first.send("GET", "/stats", "").unwrap().status, 200);
    let sockets = server.sockets() - 1;
    drop(first);
    let world = World::new(vec![server.address], scenario, seed);
    make_pool(&server, &scenario);
    let mut operations = race(&world, || meanwhile(&server, &world));
    // All connections before this one have been accepted when it is answered. One that was given up
    // is closed when all that it asked for is done.
    let mut client = server.connect();
    assert_eq!(client.send("GET", "/stats", "").unwrap().status, 200);
    let give_up = Instant::now() + PATIENCE;
    while server.sockets() > sockets + 1 {
        assert!(Instant::now() < give_up, "the server keeps connections that were closed");
        thread::sleep(Duration::from_millis(1));
    }
    end_lost(&mut operations, world.now_ns());
    take_rest(client, &world, operations)
}

/// Makes the pool of a scenario, with the settings of the server.
pub(crate) fn make_pool(server: &Server, scenario: &Scenario) {
    if scenario.is_own {
        let path = format!("/pools/{POOL}");
        assert_eq!(server.connect().send("PUT", &path, "").unwrap().status, 201);
    }
}

/// The history of clients that have ended, with a last look at all keys that are left.
pub(crate) fn take_rest(client: Client, world: &World, operations: Vec<Operation>) -> History {
    world.values.iter().for_each(Values::check_all);
    Rest { client, world, operations }.take()
}

/// Lets clients race while `meanwhile` runs.
pub(crate) fn race(world: &World, meanwhile: impl FnOnce()) -> Vec<Operation> {
    thread::scope(|scope| {
        let race = |number| scope.spawn(move || Racer::new(world, number).race());
        let racers: Vec<_> = (0..world.scenario.clients).map(race).collect();
        meanwhile();
        racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
    })
}

/// Notes that nothing of what was lost can take effect after that time.
pub(crate) fn end_lost(operations: &mut [Operation], at_ns: u64) {
    for operation in operations.iter_mut().filter(|operation| operation.ended_ns == NEVER) {
        operation.ended_ns = at_ns;
    }
}

/// What comes after the race.
struct Rest<'a> {
    client: Client,
    world: &'a World,
    operations: Vec<Operation>,
}

impl Rest<'_> {
    /// Keeps alive what lives, waits until all leases are over, leases all keys that are left, and
    /// looks at each.
    fn take(mut self) -> History {
        let Scenario { key_ttl_ms, lease_ttl_ms, .. } = self.world.scenario;
        let living = self.living();
        self.send(living.iter().map(|key| Request::keep_alive(*key)));
        thread::sleep(Duration::from_millis(
            u64::from((2 * lease_ttl_ms).max(COOLDOWN_MS_MAX)) + 20,
        ));
        while self.send((0..BATCH).map(|_| Request::lease(LAST_LEASE_MS))) {}
        let living = self.living();
        self.send(living.iter().map(|key| Request::look(*key)));
        let (operations, has_labels) = (self.operations, self.world.scenario.is_own);
        History { key_ttl_ms, slack_ns: SLACK_NS, operations, has_labels }
    }

    /// Keys that may live.
    fn living(&self) -> Vec<Uuid> {
        let mut ends = HashMap::new();
        let ttl = ns(self.world.scenario.key_ttl_ms);
        for operation in self.operations.iter().filter(|o| o.proves_life() && !o.key.is_nil()) {
            let end = ends.entry(operation.key).or_insert(0_u64);
            // This is late enough as well if no answer showed its creation.
            *end = (*end).max(operation.ended_ns.saturating_add(ttl));
        }
        let deleted = self.operations.iter().filter(|o| o.what == What::Delete && o.is_done());
        let deleted: HashSet<_> = deleted.map(|operation| operation.key).collect();
        let now = self.world.now_ns();
        let living = ends.into_iter().filter(|(key, end)| *end > now && !deleted.contains(key));
        living.map(|(key, _)| key).collect()
    }

    /// Sends requests, and records the answers. Whether all were done.
    fn send(&mut self, requests: impl Iterator<Item = Request>) -> bool {
        let requests: Vec<_> = requests.collect();
        let before = self.operations.len();
        for batch in requests.chunks(BATCH) {
            let mut text = String::new();
            for request in batch {
                request.write(self.world.values.as_ref(), &mut text);
            }
            let invoked_ns = self.world.now_ns();
            std::io::Write::write_all(&mut self.client.stream, text.as_bytes()).unwrap();
            let sequence = self.world.next_sequence();
            for (place, request) in (0..).zip(batch) {
                let turn = Turn { sequence, place };
                let answer = self.client.read().unwrap();
                let ended_ns = self.world.now_ns();
                let operation = request.answered(turn, invoked_ns, ended_ns, &answer);
                self.operations.push(operation);
            }
        }
        self.operations[before..].iter().all(Operation::is_done)
    }
}
