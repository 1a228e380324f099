//! The store in Redis as a fixture. All tests share an engine, and each has a prefix of its own.
//!
//! The engine's time is moved by what keeps it from running backwards: no shard knows a time before the last one that it has seen. So
//! a time that is far ahead stands still until it is moved.

use std::time::Duration;

use ::redis::{AsyncCommands, Client};
use token_orchestrator::key::KeyId;
use token_orchestrator::store::{Options, Redis, RedisOptions, Store};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Fixture;
use crate::engine::engine;

/// Few, as each test that finds no key looks at all of them.
const SHARDS: usize = 4;
/// How far ahead the time of the tests is.
const AHEAD_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// Sets the time that all shards and the table of pools have seen.
const SET_TIME: &str = "
    local pools = '{' .. ARGV[1] .. '}pools'
    redis.call('SET', pools .. 't', ARGV[2])
    for _, row in ipairs(redis.call('HVALS', pools)) do
        for shard = 0, ARGV[4] - 1 do
            local tag = '{' .. ARGV[1] .. '/' .. struct.unpack('>I4', row) .. '/' .. shard .. '}'
            redis.call('SETRANGE', tag .. 's', 1, ARGV[3])
        end
    end";

/// A store in Redis, whose clocks stand still.
pub(super) struct OnRedis {
    store: Redis<ManualClock>,
    clock: ManualClock,
    began: Timestamp,
    prefix: String,
    connection: ::redis::aio::MultiplexedConnection,
}

impl OnRedis {
    /// Sets the time of the engine to that of the test.
    async fn set_time(&self, now: Timestamp) {
        let now = now.as_ms();
        let mut set = ::redis::cmd("EVAL");
        set.arg(SET_TIME)
            .arg(0)
            .arg(&self.prefix)
            .arg(now)
            .arg(&now.to_be_bytes()[3..])
            .arg(SHARDS);
        set.exec_async(&mut self.connection.clone()).await.unwrap();
    }
}

impl OnRedis {
    /// Waits until all is answered that was asked.
    async fn answered(&self) {
        let mut idle = 0;
        while idle < 10 {
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

impl Fixture for OnRedis {
    type Store = Redis<ManualClock>;

    async fn make(options: Options) -> Self {
        let url = engine().url();
        let client = Client::open(url.clone()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let prefix = KeyId::random(&mut rand::rng()).to_string();
        let unix_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let unix_ms = u64::try_from(unix_ms.as_millis()).unwrap();
        let began = Timestamp::from_ms(unix_ms - Timestamp::EPOCH_UNIX_MS + AHEAD_MS);
        let _: () = connection.set(format!("{{{prefix}}}poolst"), began.as_ms()).await.unwrap();
        let redis = RedisOptions {
            nodes: vec![url],
            timeout: Duration::from_mins(1),
            prefix: prefix.clone(),
        };
        let clock = ManualClock::default();
        let options = Options { shards: SHARDS, ..options };
        let store = Redis::open(&redis, options, clock.clone()).await.unwrap();
        Self { store, clock, began, prefix, connection }
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
        let _ = self.store.stats_of(token_orchestrator::pool::PoolId::DEFAULT).await;
    }
}
