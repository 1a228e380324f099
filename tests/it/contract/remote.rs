//! The store in Redis as a fixture. All tests share an engine, and each has a prefix of its own.
//!
//! The engine's time is moved by what keeps it from running backwards: no shard knows a time before the last one that it has seen.
//! So a time that is far ahead stands still until it is moved.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::redis::cluster::ClusterClient;
use ::redis::{Client, cmd};
use futures_util::future::join_all;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::key::KeyId;
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{Options, Redis, RedisOptions, Store};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Fixture;
use crate::client::Server;
use crate::engines;

/// Few, as each test that finds no key looks at all of them.
const SHARDS: usize = 4;
/// How far ahead the time of the tests is.
const AHEAD_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// A single node.
pub(crate) type OnRedis = Remote<false>;
/// A cluster.
pub(crate) type OnCluster = Remote<true>;

/// A store in Redis, whose clocks stand still.
pub(crate) struct Remote<const IS_CLUSTER: bool> {
    store: Redis<ManualClock>,
    clock: ManualClock,
    began: Timestamp,
    redis: RedisOptions,
    options: Options,
    direct: Direct,
}

/// A connection of the test's own.
#[derive(Clone)]
enum Direct {
    Single(::redis::aio::MultiplexedConnection),
    Cluster(::redis::cluster_async::ClusterConnection),
}

impl Direct {
    async fn open(urls: &[String], is_cluster: bool) -> Self {
        if is_cluster {
            let client = ClusterClient::new(urls.iter().map(String::as_str)).unwrap();
            return Self::Cluster(client.get_async_connection().await.unwrap());
        }
        let client = Client::open(urls[0].as_str()).unwrap();
        Self::Single(client.get_multiplexed_async_connection().await.unwrap())
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, command: &::redis::Cmd) -> T {
        match self.clone() {
            Self::Single(mut single) => command.query_async(&mut single).await.unwrap(),
            Self::Cluster(mut cluster) => command.query_async(&mut cluster).await.unwrap(),
        }
    }
}

impl<const IS_CLUSTER: bool> Remote<IS_CLUSTER> {
    /// A server of the API over it.
    pub(crate) async fn serve(&self) -> Server<Redis<ManualClock>> {
        self.serve_with(ServeOptions::default()).await
    }

    /// The same with these options.
    pub(crate) async fn serve_with(&self, serve: ServeOptions) -> Server<Redis<ManualClock>> {
        Server::over(self.store.clone(), self.clock.clone(), serve).await
    }

    /// Another server with the same pools and the same clocks.
    pub(crate) async fn other(&self) -> Redis<ManualClock> {
        Redis::open(&self.redis, self.options, self.clock.clone()).await.unwrap()
    }

    /// Sets the time that the table of pools and all shards have seen.
    async fn set_time(&self, now: Timestamp) {
        let (now, table) = (now.as_ms(), format!("{{{}}}pools", self.redis.prefix));
        self.direct.ask::<()>(cmd("SET").arg(format!("{table}t")).arg(now)).await;
        let rows: Vec<Vec<u8>> = self.direct.ask(cmd("HVALS").arg(&table)).await;
        let serials = rows.iter().map(|row| u32::from_be_bytes(row[..4].try_into().unwrap()));
        let states = serials.flat_map(|serial| {
            (0..SHARDS).map(move |shard| format!("{{{}/{serial}/{shard}}}s", self.redis.prefix))
        });
        join_all(states.map(|state| async move {
            let mut set = cmd("SETRANGE");
            set.arg(state).arg(1).arg(&now.to_be_bytes()[3..]);
            self.direct.ask::<()>(&set).await;
        }))
        .await;
    }

    /// Waits until all is answered that was asked, and all tasks have had so many turns that what they do then is, too.
    async fn answered(&self) {
        let mut idle = 0;
        while idle < 50 {
            if self.store.calls() == 0 {
                idle += 1;
                yield_now().await;
            } else {
                idle = 0;
                sleep(Duration::from_micros(100)).await;
            }
        }
    }
}

impl<const IS_CLUSTER: bool> Fixture for Remote<IS_CLUSTER> {
    type Store = Redis<ManualClock>;

    async fn make(options: Options) -> Self {
        let engine = if IS_CLUSTER { engines::cluster() } else { engines::single() };
        let redis = RedisOptions {
            nodes: engine.urls(),
            user: None,
            password: None,
            authorities: None,
            replicas_ack: u32::from(IS_CLUSTER),
            timeout: Duration::from_mins(1),
            prefix: KeyId::random(&mut rand::rng()).to_string(),
        };
        let direct = Direct::open(&redis.nodes, IS_CLUSTER).await;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap();
        let began = Timestamp::from_ms(unix_ms - Timestamp::EPOCH_UNIX_MS + AHEAD_MS);
        let clock_key = format!("{{{}}}poolst", redis.prefix);
        direct.ask::<()>(cmd("SET").arg(clock_key).arg(began.as_ms())).await;
        let clock = ManualClock::default();
        let options = Options { shards: SHARDS, ..options };
        let store = Redis::open(&redis, options, clock.clone()).await.unwrap();
        Self { store, clock, began, redis, options, direct }
    }

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn now(&self) -> Timestamp {
        self.began.plus_ms(self.clock.now().as_ms())
    }

    async fn advance(&self, ms: u64) {
        // What was asked before is answered before.
        self.answered().await;
        // First there, as those that wait here ask there when they wake.
        self.set_time(self.now().plus_ms(ms)).await;
        self.clock.advance_ms(ms);
    }

    async fn settle(&self) {
        self.answered().await;
        let _ = self.store.stats_of(PoolId::DEFAULT).await;
    }
}
