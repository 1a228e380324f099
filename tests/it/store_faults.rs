//! Engines that fail, each made for one test: what is answered then, and after that.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, Value};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{
    Leasing, Options, OwnKey, Redis, RedisOptions, Release, Renewal, Store, StoreExt,
};
use token_orchestrator::time::ManualClock;
use tokio::time::timeout;

use crate::certificates::Files;
use crate::client::until;
use crate::engine::{Engine, Node, move_slots};

/// How long the engine may take where its silence is a part of the test.
const BRIEF: Duration = Duration::from_secs(4);
/// The same where it is not.
const LONG: Duration = Duration::from_mins(1);

pub(crate) fn options_for(nodes: Vec<String>, timeout: Duration) -> RedisOptions {
    let (user, password, authorities) = Default::default();
    let (replicas_ack, prefix) = (0, "to".to_owned());
    RedisOptions { nodes, user, password, authorities, replicas_ack, timeout, prefix }
}

pub(crate) async fn open_with(redis: &RedisOptions, settings: Settings) -> Redis<ManualClock> {
    let options = Options { settings, shards: 24, ..Options::default() };
    Redis::open(redis, options, ManualClock::default()).await.unwrap()
}

/// A single node, and a server that uses it.
async fn single(options: &[&str], settings: Settings) -> (Engine, Redis<ManualClock>) {
    let engine = Engine::from(Node::start(options));
    let store = open_with(&options_for(engine.urls(), LONG), settings).await;
    (engine, store)
}

/// A cluster, and two servers that wait for its replicas, and for them not long.
async fn cluster() -> (Engine, [Redis<ManualClock>; 2], KeyId) {
    let engine = Engine::cluster(Duration::from_mins(5));
    let redis = RedisOptions { replicas_ack: 1, ..options_for(engine.urls(), BRIEF) };
    let first = open_with(&redis, Settings::default()).await;
    let second = open_with(&redis, Settings::default()).await;
    let id = first.create(1).await.unwrap().ids[0];
    assert!(second.get(&id).await.is_ok());
    (engine, [first, second], id)
}

fn signal(nodes: &[Node], signal: &str) {
    for node in nodes {
        node.signal(signal);
    }
}

fn is_unavailable<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Unavailable { .. }))
}

/// What is answered at last, once the engine is available.
pub(crate) async fn answered<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let asking = async {
        loop {
            let answer = ask().await;
            if !is_unavailable(&answer) {
                return answer;
            }
        }
    };
    timeout(LONG, asking).await.expect("it becomes available")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_version_has_written_in_its_way_is_left_alone() {
    let engine = Engine::from(Node::start(&[]));
    let redis = options_for(engine.urls(), LONG);
    let open = || Redis::open(&redis, Options::default(), ManualClock::default());
    open().await.unwrap();
    assert_eq!(engine.nodes[0].ask(&["SET", "{to}poolsf", "2"]), "OK");
    let before = engine.nodes[0].ask_number(&["DBSIZE"]);
    let error = open().await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("has format 2, and this version knows format 1"), "{error}");
    assert_eq!(engine.nodes[0].ask_number(&["DBSIZE"]), before);
}

/// A failover would undo it. So not even another server shows that the key is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_has_is_neither_answered_nor_shown() {
    let (engine, [first, second], id) = cluster().await;
    signal(&engine.nodes[3..], "STOP");
    assert!(is_unavailable(&first.delete(&id, Fence::Any).await));
    assert!(is_unavailable(&second.get(&id).await));
    signal(&engine.nodes[3..], "CONT");
    let is_gone = async || second.get(&id).await == Err(Error::NotFound);
    until("the key is shown as gone", is_gone).await;
}

/// The network keeps what a client was told the end of. When it brings that at last, nobody expects it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_arrives_late_is_not_carried_out() {
    let engine = Engine::cluster_with_cables(Duration::from_mins(5));
    let store = open_with(&options_for(engine.urls(), BRIEF), Settings::default()).await;
    let id = store.create(1).await.unwrap().ids[0];
    engine.cables.iter().for_each(|cables| cables.cut(false, true));
    assert!(is_unavailable(&store.delete(&id, Fence::Any).await));
    engine.cables.iter().for_each(|cables| cables.cut(false, false));
    // A shard is asked for nothing before it is known what has become of that.
    let shown = answered(async || store.get(&id).await).await;
    assert!(shown.is_ok(), "{shown:?}");
}

/// `WAIT` waits for what its own connection has written: also after that was broken, and the call came over another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_repeated_waits_for_replicas_as_well() {
    let (engine, [first, second], id) = cluster().await;
    signal(&engine.nodes[3..], "STOP");
    let deletion = tokio::spawn(async move { first.delete(&id, Fence::Any).await });
    let primaries = &engine.nodes[..3];
    let waits = |node: &Node| node.ask(&["INFO", "clients"]).contains("blocked_clients:1");
    until("it is done, and waits", async || primaries.iter().any(waits)).await;
    for primary in primaries {
        primary.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    assert!(is_unavailable(&deletion.await.unwrap()));
    signal(&engine.nodes[3..], "CONT");
    let is_gone = async || second.get(&id).await == Err(Error::NotFound);
    until("the key is shown as gone", is_gone).await;
}

/// The node that a shard leaves ends the subscriptions to it without being asked. That is not the answer to anything.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_to_what_was_asked_also_when_shards_move() {
    let engine = Engine::cluster(Duration::from_mins(5));
    let redis = options_for(engine.urls(), LONG);
    let store = open_with(&redis, Settings::default()).await;
    let ids = store.create(48).await.unwrap().ids;
    store.lease_many(Leasing::default(), 48).await.unwrap();
    let listener = tokio::spawn({
        let store = store.clone();
        async move { store.lease(Leasing::of_any(None, 60_000)).await }
    });
    until("it hears of all shards", async || store.stats().await.unwrap().waiting == 1).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let (store, is_over) = (store.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                while !is_over.load(SeqCst) {
                    assert!(store.get(&id).await.is_ok());
                    assert_eq!(store.delete(&id, Fence::One(7)).await, Err(Error::Stale));
                    let unknown = KeyId::random(&mut rand::rng());
                    assert_eq!(store.get(&unknown).await, Err(Error::NotFound));
                }
            })
        })
        .collect();
    for [from, to] in [[0, 1], [1, 2]] {
        move_slots(&engine.nodes[from], &engine.nodes[to], 8);
    }
    is_over.store(true, SeqCst);
    for asker in askers {
        asker.await.unwrap();
    }
    listener.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_refuses_only_what_needs_more() {
    let (engine, store) = single(&[], Settings::default()).await;
    store.create(2).await.unwrap();
    let set = |bytes| engine.nodes[0].ask(&["CONFIG", "SET", "maxmemory", bytes]);
    assert_eq!(set("1"), "OK");
    assert_eq!(store.create(1).await, Err(Error::StorageFull));
    let value = Value::new("a").unwrap();
    let own = [OwnKey { value, labels: Vec::new() }];
    assert_eq!(
        store.import(token_orchestrator::pool::PoolId::DEFAULT, &own).await,
        Err(Error::StorageFull)
    );
    let lease = store.lease(Leasing::default()).await.unwrap();
    store.renew(&lease.id, Renewal::default()).await.unwrap();
    store.keep_alive(&lease.id).await.unwrap();
    store.release(&lease.id, Release::default()).await.unwrap();
    store.delete(&lease.id, Fence::Any).await.unwrap();
    assert_eq!(set("0"), "OK");
    store.create(1).await.unwrap();
    assert_eq!(store.stats().await.unwrap().keys, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_are_flushed_are_loaded_again() {
    let (engine, store) = single(&[], Settings::default()).await;
    let id = store.create(1).await.unwrap().ids[0];
    for _ in 0..10 {
        assert_eq!(engine.nodes[0].ask(&["FUNCTION", "FLUSH"]), "OK");
        let lease = store.lease(Leasing::default()).await.unwrap();
        store
            .release(&id, Release { fence: Fence::OneOf(&[lease.generation]), cooldown_ms: 0 })
            .await
            .unwrap();
    }
}

/// A server that knows what the engine has lost brings its pools back, and lets nobody lease before all leases have run out
/// that the engine may have forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn pools_come_back_to_an_engine_that_has_lost_all() {
    let settings = Settings { lease_ms_max: 1500, lease_ttl_ms: 100, ..Settings::default() };
    let (engine, store) = single(&[], settings).await;
    assert_eq!(store.put_pool("p".parse().unwrap(), settings).await, Ok(true));
    let pool = store.find_pool("p").unwrap();
    assert_eq!(engine.nodes[0].ask(&["FLUSHALL"]), "OK");
    assert_eq!(engine.nodes[0].ask_number(&["DBSIZE"]), 0);
    let in_pool = store.pool(pool);
    let id = in_pool.create(1).await.unwrap().ids[0];
    assert!(is_unavailable(&in_pool.lease(Leasing::default()).await));
    let leased = answered(async || in_pool.lease(Leasing::default()).await).await;
    assert_eq!(leased.unwrap().id, id);
    let other = open_with(&options_for(engine.urls(), LONG), settings).await;
    assert_eq!(other.find_pool("p"), Some(pool));
    // A new pool is none of the old ones.
    assert_eq!(other.put_pool("q".parse().unwrap(), settings).await, Ok(true));
    assert_ne!(other.find_pool("q"), Some(pool));
}

/// The user may do what `docs/servers.md` says that it must, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_reached_by_tls_and_with_a_password() {
    let files = Files::new();
    let guide = include_str!("../../docs/servers.md");
    let rule =
        guide.lines().find_map(|line| line.strip_prefix("user to ")).expect("a rule for a user");
    fs::write(files.path("users.acl"), format!("user default off\nuser to {rule}\n")).unwrap();
    let paths = ["cert.pem", "key.pem", "ca.pem", "users.acl"].map(|name| files.path(name));
    let options = [
        "--port",
        "0",
        "--tls-port",
        "PORT",
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &paths[0],
    ];
    let more =
        ["--tls-key-file", &paths[1], "--tls-ca-cert-file", &paths[2], "--aclfile", &paths[3]];
    let node = Node::start(&[&options[..], &more].concat());
    let redis = RedisOptions {
        user: Some("to".to_owned()),
        password: Some("secret".to_owned()),
        authorities: Some(fs::read(&paths[2]).unwrap()),
        ..options_for(vec![format!("rediss://{}", node.address())], LONG)
    };
    let store = open_with(&redis, Settings::default()).await;
    let other = open_with(&redis, Settings::default()).await;
    store.create(1).await.unwrap();
    let lease = store.lease(Leasing::default()).await.unwrap();
    let waiter = tokio::spawn(async move { other.lease(Leasing::of_any(None, 10_000)).await });
    store.release(&lease.id, Release::default()).await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap().id, lease.id);
    let wrong = RedisOptions { password: Some("wrong".to_owned()), ..redis.clone() };
    let unknown = RedisOptions { authorities: None, ..redis };
    for refused in [wrong, unknown] {
        let opened = Redis::open(&refused, Options::default(), ManualClock::default()).await;
        assert!(opened.is_err());
    }
}
