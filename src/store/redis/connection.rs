//! The connection to the engine: to a single node, or to a cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates, cmd,
};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;
use tracing::{info, warn};

use super::options::RedisOptions;

/// How often a connection in doubt is tried.
const TRIES: usize = 3;

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// The connection that is used now.
///
/// A connection to a cluster may come to hang when a node fails: its client then waits for a lock that one of its own tasks
/// has been given and never takes, as it is not asked to go on meanwhile (redis 1.8.1). It would send nothing more, to no node.
/// So a connection in doubt is tried, and replaced if it does not answer.
pub(super) struct Current {
    options: RedisOptions,
    pushes: UnboundedSender<PushInfo>,
    connection: RwLock<Connection>,
    /// How many connections there have been before it.
    number: AtomicU64,
    is_tried: AtomicBool,
    runtime: Handle,
}

impl Current {
    /// Connects. What the engine tells without being asked goes to `pushes`.
    pub(super) async fn open(
        options: &RedisOptions,
        pushes: UnboundedSender<PushInfo>,
    ) -> RedisResult<Arc<Self>> {
        let connection = RwLock::new(connect(options, &pushes).await?);
        Ok(Arc::new(Self {
            options: options.clone(),
            pushes,
            connection,
            number: AtomicU64::new(0),
            is_tried: AtomicBool::new(false),
            runtime: Handle::current(),
        }))
    }

    pub(super) fn get(&self) -> Connection {
        self.connection.read().clone()
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(SeqCst)
    }

    /// Notes that a call was not answered in time: a connection that hangs is replaced.
    pub(super) fn doubt(self: &Arc<Self>) {
        if let Connection::Cluster(cluster) = self.get() {
            self.replace_if_useless(Some(cluster));
        }
    }

    /// Replaces the connection, or this one if it hangs; one at a time.
    fn replace_if_useless(self: &Arc<Self>, in_doubt: Option<ClusterConnection>) {
        if self.is_tried.swap(true, SeqCst) {
            return;
        }
        let current = Arc::clone(self);
        self.runtime.spawn(async move {
            let is_useless = match in_doubt {
                Some(cluster) => current.hangs(cluster).await,
                None => true,
            };
            if is_useless {
                current.replace().await;
            }
            current.is_tried.store(false, SeqCst);
        });
    }

    /// Whether it has no answer to a command that any node can carry out. A node that stands still has none, either, so this
    /// is tried some times.
    async fn hangs(&self, mut cluster: ClusterConnection) -> bool {
        for _ in 0..TRIES {
            let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
            let tried = cluster.route_command(cmd("PING"), any);
            let is_silent = match timeout(self.options.timeout / 2, tried).await {
                Ok(Ok(_)) => false,
                Ok(Err(error)) => error.is_timeout(),
                Err(_) => true,
            };
            if !is_silent {
                return false;
            }
        }
        true
    }

    /// Notes that connection `number` has given the answer to another call: it is replaced.
    ///
    /// When a shard has moved to another node, its old one ends the subscriptions to it without being asked, and the client takes
    /// that for the answer to what it asked last (redis 1.8.1). From then on each call would get the answer to the one before.
    pub(super) fn distrust(self: &Arc<Self>, number: u64) {
        if self.number() == number {
            self.replace_if_useless(None);
        }
    }

    async fn replace(&self) {
        let opened = timeout(4 * self.options.timeout, connect(&self.options, &self.pushes));
        if let Ok(Ok(connection)) = opened.await {
            *self.connection.write() = connection;
            self.number.fetch_add(1, SeqCst);
            info!("the connection to the store was of no use any more, and was replaced");
        } else {
            warn!("the connection to the store is of no use any more, and no node can be reached");
        }
    }
}

/// The certificates by which nodes are known, unless they are those of the system.
fn certificates(options: &RedisOptions) -> Option<TlsCertificates> {
    let root_cert = Some(options.authorities.clone()?);
    Some(TlsCertificates { client_tls: None, root_cert })
}

/// A client of one node.
fn client_of(options: &RedisOptions, node: &str) -> RedisResult<Client> {
    let mut login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &options.user {
        login = login.set_username(user);
    }
    if let Some(password) = &options.password {
        login = login.set_password(password);
    }
    let info = node.into_connection_info()?.set_redis_settings(login);
    match certificates(options) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

/// Whether a node is one of a cluster.
async fn is_of_cluster(options: &RedisOptions, node: &str) -> RedisResult<bool> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.timeout))
        .set_response_timeout(Some(options.timeout));
    let client = client_of(options, node)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let info: String = cmd("INFO").arg("cluster").query_async(&mut connection).await?;
    Ok(info.contains("cluster_enabled:1"))
}

async fn connect(
    options: &RedisOptions,
    pushes: &UnboundedSender<PushInfo>,
) -> RedisResult<Connection> {
    let mut nodes = options.nodes.iter().peekable();
    // Of those that are named, one that can be reached says it of all.
    while let Some(node) = nodes.next() {
        match is_of_cluster(options, node).await {
            Ok(true) => break,
            Ok(false) if options.nodes.len() == 1 => {
                return open_single(options, node, pushes).await;
            }
            Ok(false) => {
                let why = "several nodes are named, and this one is not of a cluster";
                return Err((ErrorKind::InvalidClientConfig, why, node.clone()).into());
            }
            Err(error) if nodes.peek().is_none() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Connection::Cluster(open_cluster(options, pushes).await?))
}

async fn open_single(
    options: &RedisOptions,
    node: &str,
    pushes: &UnboundedSender<PushInfo>,
) -> RedisResult<Connection> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(options.timeout))
        .set_response_timeout(None)
        .set_max_delay(Duration::from_millis(500))
        .set_push_sender(pushes.clone())
        .set_automatic_resubscription();
    let client = client_of(options, node)?;
    Ok(Connection::Single(ConnectionManager::new_with_config(client, config).await?))
}

async fn open_cluster(
    options: &RedisOptions,
    pushes: &UnboundedSender<PushInfo>,
) -> RedisResult<ClusterConnection> {
    let mut client = ClusterClientBuilder::new(options.nodes.iter().map(String::as_str))
        .connection_timeout(options.timeout)
        .response_timeout(options.timeout)
        // Calls are repeated by those that know what has become of them. And an ASK must not be followed: it leads to a node
        // that has only some of the keys of a shard.
        .retries(0)
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(pushes.clone());
    if let Some(user) = &options.user {
        client = client.username(user);
    }
    if let Some(password) = &options.password {
        client = client.password(password);
    }
    if let Some(certificates) = certificates(options) {
        client = client.certs(certificates);
    }
    client.build()?.get_async_connection().await
}
