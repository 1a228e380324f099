//! `serve`: the composition root, the only place that combines the concrete types.

use std::io::{self, IsTerminal};
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::audit::{self, Audit};
use super::data::{self, DataArgs};
use super::listen;
use super::log::{self, LogFormat};
use super::names::Names;
use super::ready::{Ready, is_loopback};
use super::remote::StoreArgs;
use super::starting::while_starting;
use crate::config;
use crate::http::{Access, Listeners, ServeOptions, Timeouts, Tls};
use crate::pool::Settings;
use crate::store::{Durable, Memory, Options, Redis};
use crate::time::SystemClock;

/// Open files reserved for the address for operators: 1,000 connections, and the server's own files.
const OPERATOR_FILES: usize = 1100;
/// The options of the server.
#[derive(clap::Args)]
pub(super) struct Args {
    /// IP address and port to listen on, such as 0.0.0.0:8080; localhost is 127.0.0.1
    #[arg(long, env = "TOKEN_ORCHESTRATOR_LISTEN", default_value = "127.0.0.1:8080",
          value_name = "IP:PORT", value_parser = listen::parse)]
    listen: SocketAddr,
    /// IP address and port for operators, such as 127.0.0.1:9090: metrics, probes, documentation and
    /// dashboard move there from --listen
    #[arg(long, env = "TOKEN_ORCHESTRATOR_ADMIN_LISTEN", value_name = "IP:PORT",
          value_parser = listen::parse)]
    admin_listen: Option<SocketAddr>,
    /// File of tokens; each request must then carry one of them. `token new` prints a line for it. SIGHUP
    /// reloads the file
    #[arg(long, env = "TOKEN_ORCHESTRATOR_AUTH_TOKENS", value_name = "FILE")]
    auth_tokens: Option<PathBuf>,
    /// Speak TLS with this certificate: a PEM file with the server's certificate first, then its issuers.
    /// SIGHUP reloads the file
    #[arg(long, env = "TOKEN_ORCHESTRATOR_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate: a PEM file. SIGHUP reloads it
    #[arg(long, env = "TOKEN_ORCHESTRATOR_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Listen on addresses that other machines can reach although no tokens are asked for; with --auth-tokens
    /// it changes nothing
    #[arg(long, env = "TOKEN_ORCHESTRATOR_INSECURE_NO_AUTH",
          value_parser = config::parse_switch)]
    insecure_no_auth: bool,
    /// A name by which clients reach the server, such as keys.example.com. Without --auth-tokens, requests
    /// that name the server otherwise are refused, unless by an IP address or as localhost. Separate several
    /// names with commas
    #[arg(long, env = "TOKEN_ORCHESTRATOR_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',',
          value_parser = config::parse_host)]
    allowed_host: Vec<String>,
    /// Format of the log on standard error
    #[arg(
        long,
        env = "TOKEN_ORCHESTRATOR_LOG_FORMAT",
        default_value = "human",
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
    /// Write a line for each request that changes or gives something, and for each one that is refused for its
    /// token or its host: to a file, which SIGHUP opens again, or to standard error
    #[arg(long, env = "TOKEN_ORCHESTRATOR_AUDIT_LOG", value_name = "FILE|stderr")]
    audit_log: Option<audit::Target>,
    /// How long a key lives without a keep-alive, such as 5m or 1500ms: from 1ms to 365d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_KEY_TTL", default_value = "5m", value_name = "DURATION",
          value_parser = config::parse_key_ttl_ms)]
    key_ttl: u64,
    /// How long a lease lasts unless a request says otherwise, such as 60s: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_LEASE_TTL", default_value = "60s", value_name = "DURATION",
          value_parser = config::parse_lease_ttl_ms)]
    lease_ttl: u32,
    /// The longest lease that a request may ask for, such as 10m: from the lease TTL, which is the default, to
    /// 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_LEASE", value_name = "DURATION",
          value_parser = config::parse_max_ms)]
    max_lease: Option<u32>,
    /// The longest cool-down that a request may ask for: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_COOLDOWN", default_value = "1h",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    max_cooldown: u32,
    /// The longest that a request may wait for a key: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_WAIT", default_value = "60s",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    max_wait: u32,
    /// How many requests may wait for a key at once, 0 for none; further ones get 503
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_WAITERS", default_value_t = Options::WAITERS_MAX,
          value_name = "NUMBER")]
    max_waiters: usize,
    /// How many connections may be open at once, from 1 to 1000000; further ones wait to be accepted
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_CONNECTIONS", default_value_t = ServeOptions::CONNECTIONS_MAX,
          value_name = "NUMBER", value_parser = config::parse_connections_max)]
    max_connections: usize,
    /// How many connections one client may have open at once, and how many of its requests may wait for a key, 1 at
    /// least; further ones are closed, or get 429. A client is an IPv4 address or a /64 of IPv6. Leave it out behind
    /// a proxy, whose clients share one address
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_CONNECTIONS_PER_PEER", value_name = "NUMBER",
          value_parser = config::parse_connections_max)]
    max_connections_per_peer: Option<usize>,
    /// How long a connection may be without a request, over HTTP/1.1 and HTTP/2, from 1ms to 30d: longer than a
    /// proxy in front keeps its connections, so that the proxy closes them first
    #[arg(long, env = "TOKEN_ORCHESTRATOR_IDLE_TIMEOUT", default_value = "90s",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    idle_timeout: u32,
    /// How long a client may take to send the head of a request, to agree on TLS, or to take what it is sent:
    /// from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_HEAD_TIMEOUT", default_value = "30s",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    head_timeout: u32,
    /// How long to go on accepting connections after SIGTERM, while /readyz answers 503, such as 5s: 0s, or
    /// from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_DRAIN_DELAY", default_value = "0s",
          value_name = "DURATION", value_parser = config::parse_delay_ms)]
    drain_delay: u32,
    /// How long requests in flight may take after SIGTERM: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_DRAIN_TIMEOUT", default_value = "10s",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    drain_timeout: u32,
    /// How many keys a pool may contain at once, from 1 to 4294967295
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_KEYS", default_value_t = Settings::default().keys_max,
          value_name = "NUMBER", value_parser = config::parse_keys_max)]
    max_keys: usize,
    /// How many pools there may be at once, with the default pool, from 1 to 1000000
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_POOLS", default_value_t = Options::POOLS_MAX,
          value_name = "NUMBER", value_parser = config::parse_pools_max)]
    max_pools: usize,
    /// How many bytes the values of imported keys may have, in all pools together, from 1 to 1099511627776
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_VALUE_BYTES", default_value_t = Options::VALUE_BYTES_MAX,
          value_name = "NUMBER", value_parser = config::parse_value_bytes_max)]
    max_value_bytes: usize,
    /// How many shards the keys of the default pool are divided into: a power of two from 2 to 4096
    #[arg(long, env = "TOKEN_ORCHESTRATOR_SHARDS", default_value_t = Options::SHARDS,
          value_name = "NUMBER", value_parser = config::parse_shards)]
    shards: usize,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    store: StoreArgs,
}

impl Args {
    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// A message that names the options in conflict, as the user calls them.
    pub(super) fn check(&self, names: &Names) -> Result<(), String> {
        if self.max_lease.is_some_and(|max| max < self.lease_ttl) {
            let (max, least) = (names.name("max-lease"), display_ms(self.lease_ttl));
            return Err(format!(
                "{max} must not be shorter than {}: set it to {least}, or more",
                names.name("lease-ttl")
            ));
        }
        let (has_certificate, has_key) = (self.tls_cert.is_some(), self.tls_key.is_some());
        if has_certificate != has_key {
            let (given, missing) =
                if has_key { ("tls-key", "tls-cert") } else { ("tls-cert", "tls-key") };
            return Err(format!("{} needs --{missing} FILE", names.name(given)));
        }
        if self.admin_listen == Some(self.listen) && self.listen.port() != 0 {
            let (main, admin) = (names.name("listen"), names.name("admin-listen"));
            return Err(format!("{main} and {admin} must be different addresses"));
        }
        self.data.check(names)?;
        self.store.check(names, self.data.data_dir.is_some())?;
        let admin = self.admin_listen.map(|address| (address, "admin-listen"));
        let addresses = iter::once((self.listen, "listen")).chain(admin);
        let reachable = addresses.into_iter().find(|(address, _)| !is_loopback(*address));
        if let Some((address, option)) = reachable
            && self.auth_tokens.is_none()
            && !self.insecure_no_auth
        {
            return Err(format!(
                "{}: other machines can reach {address}; ask for tokens with --auth-tokens FILE, or allow \
                 every request with --insecure-no-auth",
                names.name(option)
            ));
        }
        Ok(())
    }

    /// The options of the store.
    fn options(&self) -> Options {
        let settings = Settings {
            key_ttl_ms: Some(self.key_ttl),
            lease_ttl_ms: self.lease_ttl,
            lease_ms_max: self.max_lease.unwrap_or(self.lease_ttl),
            cooldown_ms_max: self.max_cooldown,
            wait_ms_max: self.max_wait,
            lapse_cooldown_ms: 0,
            keys_max: self.max_keys,
        };
        Options {
            settings,
            shards: self.shards,
            waiters_max: self.max_waiters,
            pools_max: self.max_pools,
            value_bytes_max: self.max_value_bytes,
        }
    }

    /// The certificate and its key, if the server is to speak TLS.
    fn tls(&self, names: &Names) -> io::Result<Option<Tls>> {
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        let tls = files.map(|(certificate, key)| Tls::open(certificate, key)).transpose();
        tls.map_err(|error| names.blame(&["tls-cert", "tls-key"], &error))
    }
}

fn display_ms(ms: u32) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(ms.into()))
}

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
///
/// If an address or a file cannot be used. The message names it.
pub(super) fn run(args: &Args, names: &Names) -> io::Result<()> {
    let log = log::start(args.log_format)?;
    let audit = args.audit_log.as_ref().map(audit::start).transpose();
    // When it is dropped, all requests are answered.
    let audit = audit.map_err(|error| names.blame(&["audit-log"], &error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(args, names, audit.as_ref(), log.dropped.clone()));
    // A directory may still be read.
    runtime.shutdown_background();
    served
}

/// Raises the limit on open files to the most that the system allows.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// How many connections may be open. With an address for operators, some files are reserved for its
/// connections and for the server itself.
fn connections_max(args: &Args) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let left = (files / 2).max(files.saturating_sub(OPERATOR_FILES));
    if args.admin_listen.is_some() && left < args.max_connections {
        warn!(
            "at most {left} connections instead of {}, because at most {files} files may be open; raise \
             the limit with ulimit -n",
            args.max_connections
        );
        return left;
    }
    args.max_connections
}

/// A store.
enum Opened {
    /// In this process, and perhaps on disk.
    Memory(Memory<SystemClock>, Option<Durable>),
    /// In an engine that several servers share.
    Redis(Redis<SystemClock>),
}

/// Opens the store. If that takes a while, clients are told so on copies of the listeners.
async fn open(
    args: &Args,
    names: &Names,
    access: &Access,
    listeners: (&mut Listeners, ServeOptions),
) -> io::Result<Opened> {
    let options = args.options();
    if let Some(nodes) = &args.store.store {
        let opening = args.store.open(nodes, names, options);
        return while_starting(opening, listeners).await?.map(Opened::Redis);
    }
    let (store, durable) = data::open(&args.data, names, options, access, listeners).await?;
    Ok(Opened::Memory(store, durable))
}

async fn serve(
    args: &Args,
    names: &Names,
    audit: Option<&Audit>,
    log_dropped: Arc<AtomicU64>,
) -> io::Result<()> {
    // A failed restart (see main) may have reset this signal, which would then end the process.
    let _ignored = signal(SignalKind::pipe())?;
    if let Err(error) = raise_file_limit() {
        warn!("cannot raise the limit on open files: {error}; raise it with ulimit -n");
    }
    // Before the socket opens: from then on a signal drains the server.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Without files to reload, a server ends with its terminal.
    let audit_file = audit.and_then(|audit| audit.file.clone());
    let has_files = args.auth_tokens.is_some() || args.tls_cert.is_some() || audit_file.is_some();
    let hangup = (has_files || !io::stderr().is_terminal())
        .then(|| signal(SignalKind::hangup()))
        .transpose()?;
    let access = match &args.auth_tokens {
        Some(path) => Access::by_tokens(path.clone())
            .map_err(|error| names.blame(&["auth-tokens"], &error))?,
        None => Access::open_to_hosts(args.allowed_host.clone()),
    };
    let tls = args.tls(names)?;
    let listen = |address, option| listen::open(address, &names.name(option));
    let main = listen(args.listen, "listen")?;
    let admin = args.admin_listen.map(|address| listen(address, "admin-listen")).transpose()?;
    let mut listeners = Listeners { main, admin };
    let serve_options = ServeOptions {
        connections_max: connections_max(args),
        connections_per_peer_max: args.max_connections_per_peer,
        timeouts: Timeouts {
            idle: Duration::from_millis(args.idle_timeout.into()),
            head: Duration::from_millis(args.head_timeout.into()),
        },
        drain_timeout: Duration::from_millis(args.drain_timeout.into()),
        drain_delay: Duration::from_millis(args.drain_delay.into()),
        access: access.clone(),
        tls: tls.clone(),
        diagnose: None,
        log_dropped,
        audit: audit.map(|audit| audit.log.clone()),
        heartbeat: None,
    };
    let starting = (&mut listeners, serve_options.clone());
    let opening = open(args, names, &access, starting);
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        }
    };
    let opened = tokio::select! {
        opened = opening => opened?,
        signal = stopped => {
            // What shows how far it has come is gone by now.
            info!("{signal}: stopped while it was starting");
            return Ok(());
        }
    };
    let mut ready = Ready {
        listeners,
        options: serve_options,
        access,
        tls,
        audit_file,
        hangup,
        terminate,
        interrupt,
    };
    match opened {
        Opened::Memory(store, durable) => {
            ready.options.diagnose = Some(Arc::new(store.clone()));
            tokio::spawn(store.clone().sweep());
            ready.serve(Arc::new(store)).await?;
            if let Some(durable) = durable {
                spawn_blocking(move || durable.close()).await.map_err(io::Error::other)?;
            }
        }
        Opened::Redis(store) => {
            ready.options.diagnose = Some(Arc::new(store.clone()));
            ready.serve(Arc::new(store)).await?;
        }
    }
    info!("stopped");
    Ok(())
}
