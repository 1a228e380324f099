//! The connection to the engine: a cluster, or a single node.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use ::redis::aio::ConnectionLike;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use ::redis::{
    Cmd, ErrorKind, PushInfo, RedisError, RedisResult, ServerErrorKind, Value, cmd, pipe,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::connection::{Connection, Current};
use super::failure::{Failure, REPEAT_AFTER, failure, is_unloaded};
use super::library::{Function, Library};
use super::options::RedisOptions;
use crate::error::Error;
use crate::store::port::RemoteStats;

/// Counts of calls.
#[derive(Default)]
struct Calls {
    under_way: AtomicUsize,
    ended: AtomicU64,
    failed: AtomicU64,
    ns: AtomicU64,
}

/// The name of the next call of this process.
static NEXT_NAME: AtomicU64 = AtomicU64::new(1);

/// What the engine tells without being asked.
pub(super) type Pushes = UnboundedReceiver<PushInfo>;

/// A connection to the engine. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    connection: Arc<Current>,
    pub(super) timeout: Duration,
    replicas_ack: u32,
    calls: Arc<Calls>,
    library: &'static Library,
}

impl Calls {
    fn count(&self, took: Duration, has_failed: bool) {
        self.ended.fetch_add(1, Relaxed);
        self.failed.fetch_add(u64::from(has_failed), Relaxed);
        self.ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(0), Relaxed);
    }
}

impl Link {
    /// Connects, and loads the library of functions.
    pub(super) async fn open(options: &RedisOptions) -> io::Result<(Self, Pushes)> {
        let (sender, pushes) = unbounded_channel();
        let connection = Current::open(options, sender).await.map_err(refusal)?;
        let calls = Arc::default();
        let (timeout, replicas_ack) = (options.timeout, options.replicas_ack);
        let link = Self { connection, timeout, replicas_ack, calls, library: Library::get() };
        link.load().await.map_err(refusal)?;
        Ok((link, pushes))
    }

    /// Loads the library on all primaries, as far as it is not there.
    async fn load(&self) -> RedisResult<()> {
        let load = cmd("FUNCTION").arg("LOAD").arg(&self.library.source).to_owned();
        let loaded = match self.connection.get() {
            Connection::Single(mut connection) => connection.req_packed_command(&load).await,
            Connection::Cluster(mut connection) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                connection.route_command(load, all).await
            }
        };
        let loaded = loaded.and_then(Value::extract_error);
        match loaded {
            Err(error) if error.to_string().contains("already exists") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                info!("the library of functions {} is loaded", self.library.name);
                Ok(())
            }
        }
    }

    /// Calls a function with one key. With [`RedisOptions::replicas_ack`] it ends once so many replicas have what it changed.
    ///
    /// # Errors
    ///
    /// [`Failure::Unknown`] also if it takes longer than the time that is left.
    pub(super) async fn call<A: AsRef<[u8]>>(
        &self,
        function: Function,
        key: &[u8],
        arguments: &[A],
        within: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let mut call = cmd("FCALL");
        call.arg(self.library.function(function)).arg(1).arg(key);
        for argument in arguments {
            call.arg(argument.as_ref());
        }
        let name = NEXT_NAME.fetch_add(1, SeqCst).to_be_bytes();
        call.arg(&name);
        let connection = self.connection.number();
        let began = Instant::now();
        self.calls.under_way.fetch_add(1, SeqCst);
        let called = timeout(within, self.called(call, within)).await;
        self.calls.under_way.fetch_sub(1, SeqCst);
        let called = called.unwrap_or(Err(Failure::Unknown));
        self.calls.count(began.elapsed(), called.is_err());
        let called = called.map(|mut answer| {
            let is_named = answer.starts_with(&name);
            answer.drain(..name.len().min(answer.len()));
            is_named.then_some(answer)
        });
        match called {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                self.connection.distrust(connection);
                Err(Failure::Unknown)
            }
            Err(failure) => {
                if failure == Failure::Unknown {
                    self.connection.doubt();
                }
                Err(failure)
            }
        }
    }

    /// As [`Link::call`], for what may be done twice: it is repeated for as long as a call may take.
    pub(super) async fn ask<A: AsRef<[u8]>>(
        &self,
        function: Function,
        key: &[u8],
        arguments: &[A],
    ) -> Result<Vec<u8>, Error> {
        let began = Instant::now();
        loop {
            let left = self.timeout.saturating_sub(began.elapsed());
            let failure = match self.call(function, key, arguments, left).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure == Failure::Full || began.elapsed() + REPEAT_AFTER > self.timeout {
                return Err(failure.into());
            }
            sleep(REPEAT_AFTER).await;
        }
    }

    /// Whether an answer waits for replicas.
    pub(super) fn waits_for_replicas(&self) -> bool {
        self.replicas_ack > 0
    }

    /// How many calls are under way.
    pub(super) fn calls(&self) -> usize {
        self.calls.under_way.load(SeqCst)
    }

    /// What has become of all calls; without what is known of shards.
    pub(super) fn stats(&self) -> RemoteStats {
        let Calls { ended, failed, ns, .. } = &*self.calls;
        RemoteStats {
            calls: ended.load(Relaxed),
            failed: failed.load(Relaxed),
            call_ns: ns.load(Relaxed),
            connections_replaced: self.connection.number(),
            silent_shards: 0,
        }
    }

    /// The answer as it comes: it may be that to another call.
    async fn called(&self, call: Cmd, within: Duration) -> Result<Vec<u8>, Failure> {
        for _ in 0..2 {
            match self.send_and_wait(&call, within).await {
                Ok(Value::BulkString(answer)) => return Ok(answer),
                // No function answers anything else.
                Ok(_) => return Ok(Vec::new()),
                Err(error) if is_unloaded(&error) => {
                    // Somebody has flushed it, or this primary is new.
                    if let Err(error) = self.load().await {
                        return Err(failure(&error));
                    }
                }
                Err(error) => return Err(failure(&error)),
            }
        }
        Err(Failure::Refused)
    }

    /// Changes when the connection is replaced: another one hears of no channel.
    pub(super) fn connections(&self) -> u64 {
        self.connection.number()
    }

    /// Asks for what is told on a channel of a shard, or asks no more.
    pub(super) async fn listen(&self, channel: &str, listens: bool) -> Result<(), Failure> {
        let asked = async {
            match (self.connection.get(), listens) {
                (Connection::Single(mut single), true) => single.subscribe(channel).await,
                (Connection::Single(mut single), false) => single.unsubscribe(channel).await,
                (Connection::Cluster(mut cluster), true) => cluster.ssubscribe(channel).await,
                (Connection::Cluster(mut cluster), false) => cluster.sunsubscribe(channel).await,
            }
        };
        match timeout(self.timeout, asked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(Failure::Unknown),
        }
    }

    /// Sends a call, and waits until enough replicas have what it changed.
    async fn send_and_wait(&self, call: &Cmd, within: Duration) -> RedisResult<Value> {
        if self.replicas_ack == 0 {
            return self.send(call).await;
        }
        let mut both = pipe();
        let wait_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        both.add_command(call.clone()).cmd("WAIT").arg(self.replicas_ack).arg(wait_ms);
        let answers = match self.connection.get() {
            Connection::Single(mut single) => single.req_packed_commands(&both, 0, 2).await?,
            Connection::Cluster(mut cluster) => cluster.req_packed_commands(&both, 0, 2).await?,
        };
        let [answer, acknowledged] = <[Value; 2]>::try_from(answers)
            .map_err(|_| RedisError::from((ErrorKind::Parse, "not two answers")))?;
        let answer = answer.extract_error()?;
        match acknowledged.extract_error()? {
            Value::Int(replicas) if replicas >= i64::from(self.replicas_ack) => Ok(answer),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "too few replicas have it").into()),
        }
    }

    async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self.connection.get() {
            Connection::Single(mut single) => single.req_packed_command(command).await,
            Connection::Cluster(mut cluster) => cluster.req_packed_command(command).await,
        };
        // A refusal is an answer, too.
        answer?.extract_error()
    }
}

/// What to say if the store cannot be opened. It is in vain to try again if its kind is
/// [`io::ErrorKind::PermissionDenied`].
fn refusal(error: RedisError) -> io::Error {
    let is_final = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Server(ServerErrorKind::NoPerm)
    );
    let kind = if is_final { io::ErrorKind::PermissionDenied } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}
