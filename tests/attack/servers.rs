//! Histories of two servers with the same pools, which are in a cluster of Redis: one history, which the checker judges as
//! that of a single server. What a connection asks for at once is not done in its order there, unless it is for one key.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Builder;

use crate::checker::record::History;
use crate::checker::{Found, check};
use crate::engine::{Engine, move_slots};
use crate::history::clients::{Scenario, World};
use crate::history::run::{end_lost, make_pool, options, race, take_rest};
use crate::history::{FEW, MANY, OWN, PIPELINED, seed};
use crate::server::{Server, program};

/// How long a store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long clients race before a fault, and after it: until a replica has taken over, and its keys are leased again.
const BEFORE_FAULT: Duration = Duration::from_secs(2);
const AFTER_FAULT: Duration = Duration::from_secs(18);
/// How many operations a history has.
const OPERATIONS: u64 = 10_000;

/// Two servers, and the cluster that has their pools.
struct Servers {
    engine: Engine,
    both: [Server; 2],
    options: Vec<String>,
}

impl Servers {
    /// A machine that is busy with other tests may let a store wait for seconds. That is a fault only where faults are made.
    fn start(scenario: &Scenario, may_fail: bool, has_cables: bool) -> Self {
        let (timeout, silent) = if may_fail { ("1s", 2) } else { ("60s", 300) };
        let silent = Duration::from_secs(silent);
        let engine =
            if has_cables { Engine::cluster_with_cables(silent) } else { Engine::cluster(silent) };
        let hosts = engine.urls().join(",").replace("redis://", "");
        let mut options = options(scenario);
        let store = format!("redis://{hosts}");
        let of_store = ["--store", &store, "--store-replicas-ack", "1", "--store-timeout", timeout];
        options.extend(of_store.map(str::to_owned));
        let words: Vec<&str> = options.iter().map(String::as_str).collect();
        // While a store fails, little is measured, and much of the time nothing is done.
        let first = if may_fail { Server::start_beside(&words) } else { Server::start(&words) };
        let second = Server::start_beside(&words);
        Self { engine, both: [first, second], options }
    }

    /// Lets clients race at both servers while `meanwhile` runs.
    fn record(
        mut self,
        scenario: Scenario,
        seed: u64,
        may_fail: bool,
        meanwhile: impl FnOnce(&mut Self, &World),
    ) -> History {
        make_pool(&self.both[0], &scenario);
        // The other one learns of it within a second.
        let path = if scenario.is_own { "/pools/own/stats" } else { "/stats" };
        let give_up = Instant::now() + Duration::from_secs(10);
        while self.both[1].connect().send("GET", path, "").unwrap().status != 200 {
            assert!(Instant::now() < give_up, "a server does not learn of a pool");
            thread::sleep(Duration::from_millis(10));
        }
        let addresses = self.both.iter().map(|server| server.address).collect();
        let mut world = World::new(addresses, scenario, seed);
        (world.is_ordered, world.may_fail, world.is_restarted) = (false, may_fail, may_fail);
        let mut operations = race(&world, || meanwhile(&mut self, &world));
        // Nothing that was lost is carried out after that: each call has a deadline.
        thread::sleep(3 * STORE_TIMEOUT);
        assert!(self.both.iter().all(answers), "HISTORY_SEED={seed}: a server is at a stand");
        end_lost(&mut operations, world.now_ns());
        take_rest(self.both[0].connect(), &world, operations)
    }
}

/// Whether a server answers for some of the shards: those of a primary that has no replica any more are refused. That there is
/// no such key takes the shard of the id.
fn answers(server: &Server) -> bool {
    let mut client = server.connect();
    let mut is_answered =
        |id| client.send("GET", &format!("/keys/{id}"), "").unwrap().status == 404;
    (0..30).any(|_| is_answered(Builder::from_random_bytes(rand::random()).into_uuid()))
}

fn try_out(scenario: Scenario) -> Found {
    let (seed, scenario) = (seed(), Scenario { operations: OPERATIONS, ..scenario });
    println!("HISTORY_SEED={seed} {scenario:?}");
    let history = Servers::start(&scenario, false, false).record(scenario, seed, false, |_, _| ());
    let found =
        check(&history).unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
    println!("{found:#?}");
    assert!(found.leases > 100, "{found:#?}");
    found
}

#[test]
fn clients_racing_for_few_keys_at_two_servers_see_what_was_promised() {
    try_out(FEW);
}

#[test]
fn clients_racing_for_many_keys_at_two_servers_see_what_was_promised() {
    try_out(MANY);
}

#[test]
fn clients_racing_for_keys_of_their_own_at_two_servers_see_what_was_promised() {
    try_out(OWN);
}

#[test]
fn pipelining_clients_at_two_servers_see_what_was_promised() {
    try_out(PIPELINED);
}

/// Clients race at two servers while a fault is made, and for a while after it. What they have seen is judged as if nothing had
/// happened: only that answers may be missing.
fn survive(fault: impl FnOnce(&mut Servers, &World)) {
    survive_with(false, fault);
}

fn survive_with(has_cables: bool, fault: impl FnOnce(&mut Servers, &World)) {
    let seed = seed();
    let scenario = Scenario { keys: 300, operations: u64::MAX, hangs_up: false, ..MANY };
    println!("HISTORY_SEED={seed} {scenario:?}");
    let history = Servers::start(&scenario, true, has_cables).record(
        scenario,
        seed,
        true,
        |servers, world| {
            thread::sleep(BEFORE_FAULT);
            fault(servers, world);
            thread::sleep(AFTER_FAULT);
            world.is_over.store(true, SeqCst);
        },
    );
    let found =
        check(&history).unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
    println!("{found:#?}");
    assert!(found.leases > 100 && found.lost > 0, "{found:#?}");
}

/// A primary is killed with `kill -9`, and its replica takes over. What was answered is not forgotten, as the replica had it,
/// and keys that it takes for free are not leased before all leases have run out that it might not know.
#[test]
fn a_failover_breaks_no_promise() {
    survive(|servers, _| servers.engine.nodes[0].signal("KILL"));
}

/// A primary stands still for so long that its replica takes over, and goes on then with what it was asked before.
#[test]
fn a_primary_that_stood_still_breaks_no_promise() {
    survive(|servers, _| {
        servers.engine.nodes[0].signal("STOP");
        thread::sleep(Duration::from_secs(6));
        servers.engine.nodes[0].signal("CONT");
    });
}

/// Without its replica, what a primary changes cannot be answered. It comes back.
#[test]
fn a_replica_that_stood_still_breaks_no_promise() {
    survive(|servers, _| {
        servers.engine.nodes[3].signal("STOP");
        thread::sleep(Duration::from_secs(3));
        servers.engine.nodes[3].signal("CONT");
    });
}

/// A primary is cut off from all others, its replica takes over, and then what was on its way arrives.
#[test]
fn a_primary_that_was_cut_off_breaks_no_promise() {
    survive_with(true, |servers, _| {
        servers.engine.cables[0].cut(true, true);
        thread::sleep(Duration::from_secs(6));
        servers.engine.cables[0].cut(false, false);
    });
}

/// A primary is cut off from the other nodes, but not from the servers, which go on to ask it while its replica takes over.
#[test]
fn a_primary_that_only_servers_reach_breaks_no_promise() {
    survive_with(true, |servers, _| {
        servers.engine.cables[0].cut(true, false);
        thread::sleep(Duration::from_secs(6));
        servers.engine.cables[0].cut(false, false);
    });
}

/// A server is killed with `kill -9` again and again, and starts anew. What it had asked for may still be carried out; the
/// other one goes on.
#[test]
fn a_server_that_is_killed_breaks_no_promise() {
    survive(|servers, world| {
        world.is_stopping.store(true, SeqCst);
        for _ in 0..10 {
            servers.both[1].kill();
            let options: Vec<&str> = servers.options.iter().map(String::as_str).collect();
            servers.both[1].start_again(program(), &options);
            thread::sleep(Duration::from_millis(200));
        }
    });
}

/// Shards move from one primary to the others while clients race: none is asked for what it has only some of.
#[test]
fn shards_that_move_break_no_promise() {
    survive(|servers, _| {
        let engine = &servers.engine;
        for [from, to] in [[0, 1], [1, 2]] {
            let moved = move_slots(&engine.nodes[from], &engine.nodes[to], 5);
            assert_eq!(moved, 5, "so few slots have keys");
        }
    });
}
