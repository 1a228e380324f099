//! `serve`: the composition root, the only place that names concrete types together.

use std::env;
use std::io::{self, IsTerminal};
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::block_in_place;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config;
use crate::http::{self, Access, Limits, Listeners, ServeOptions, Tls};
use crate::key::Ttl;
use crate::store::{Memory, Options};
use crate::time::SystemClock;

/// Open files that are left to operators: 1,000 connections, and some.
const FILES_FOR_OPERATORS: usize = 1100;
/// Connections that wait to be accepted. The system may allow fewer.
const BACKLOG: u32 = 4096;

/// What the server is told.
#[derive(clap::Args)]
pub(super) struct Args {
    /// IP address and port to listen on
    #[arg(
        long,
        env = "TOKEN_ORCHESTRATOR_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "IP:PORT"
    )]
    listen: SocketAddr,
    /// IP address and port for operators: metrics, health, docs and page are there, and no longer on the
    /// other
    #[arg(long, env = "TOKEN_ORCHESTRATOR_ADMIN_LISTEN", value_name = "IP:PORT")]
    admin_listen: Option<SocketAddr>,
    /// File of tokens, without one of which nobody may do anything; see `token new`. SIGHUP reads it again
    #[arg(long, env = "TOKEN_ORCHESTRATOR_AUTH_TOKENS", value_name = "FILE")]
    auth_tokens: Option<PathBuf>,
    /// Listens on addresses that others can reach, without tokens
    #[arg(long, env = "TOKEN_ORCHESTRATOR_INSECURE_NO_AUTH",
          value_parser = clap::builder::BoolishValueParser::new())]
    insecure_no_auth: bool,
    /// How the log is written to standard error
    #[arg(long, env = "TOKEN_ORCHESTRATOR_LOG_FORMAT", default_value = "human")]
    log_format: LogFormat,
    /// How long a key lives without a keep-alive, such as 5m or 1500ms: from 1ms to 365d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_KEY_TTL", default_value = "5m", value_name = "DURATION",
          value_parser = config::parse_key_ttl_ms)]
    key_ttl: u64,
    /// After how long a leased key is free again: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_LEASE_TTL", default_value = "60s", value_name = "DURATION",
          value_parser = config::parse_lease_ttl_ms)]
    lease_ttl: u32,
    /// The longest lease that a request may ask for: from the lease TTL, which is the default, to 30d
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
    /// How many requests may wait for a key at once
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_WAITERS", default_value_t = Options::WAITERS_MAX,
          value_name = "NUMBER")]
    max_waiters: usize,
    /// How many connections there may be at once; further ones wait to be accepted
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_CONNECTIONS", default_value_t = ServeOptions::CONNECTIONS_MAX,
          value_name = "NUMBER", value_parser = config::parse_connections_max)]
    max_connections: usize,
    /// How long after SIGTERM to go on, while /readyz says 503: 0s, or from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_DRAIN_DELAY", default_value = "0s",
          value_name = "DURATION", value_parser = config::parse_delay_ms)]
    drain_delay: u32,
    /// How long requests in flight may take after SIGTERM: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_DRAIN_TIMEOUT", default_value = "10s",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    drain_timeout: u32,
    /// The most keys there may be at once, up to 4294967295
    #[arg(long, env = "TOKEN_ORCHESTRATOR_MAX_KEYS", default_value_t = Options::KEYS_MAX,
          value_name = "NUMBER", value_parser = config::parse_keys_max)]
    max_keys: usize,
    /// Into how many shards keys are divided: a power of two from 2 to 4096
    #[arg(long, env = "TOKEN_ORCHESTRATOR_SHARDS", default_value_t = Options::SHARDS,
          value_name = "NUMBER", value_parser = config::parse_shards)]
    shards: usize,
    /// Speak TLS with this certificate: a PEM file of it and of those that vouch for it. SIGHUP reads it anew
    #[arg(long, env = "TOKEN_ORCHESTRATOR_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, env = "TOKEN_ORCHESTRATOR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Args {
    /// Whether the values go together.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_lease.is_some_and(|max| max < self.lease_ttl) {
            return Err("--max-lease must not be shorter than --lease-ttl".to_owned());
        }
        let addresses = iter::once(self.listen).chain(self.admin_listen);
        let reachable = addresses.into_iter().find(|address| !is_loopback(*address));
        if let Some(address) = reachable
            && self.auth_tokens.is_none()
            && !self.insecure_no_auth
        {
            return Err(format!(
                "{address} can be reached by others: give --auth-tokens, or --insecure-no-auth"
            ));
        }
        Ok(())
    }

    /// The certificate to speak TLS with, if it is to be spoken.
    fn tls(&self) -> io::Result<Option<Tls>> {
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        files.map(|(certificate, key)| Tls::open(certificate, key)).transpose()
    }
}

/// How the log is written.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// Lines for people
    Human,
    /// A JSON object a line
    Json,
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Serves until SIGTERM or Ctrl-C.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(&env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default()))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would panic when nobody reads standard error any more.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.with_ansi(false).json().flatten_event(true).init(),
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

/// What is logged, by what `RUST_LOG` says.
fn filter(text: &str) -> EnvFilter {
    let builder = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    let mut filter = builder.parse_lossy(text);
    let names_us = |directive: &str| {
        directive.starts_with("token_orchestrator") || directive.parse::<LevelFilter>().is_ok()
    };
    if !text.is_empty() && !text.split(',').map(str::trim).any(names_us) {
        // What is said of others is not meant to silence us.
        filter = filter.add_directive("token_orchestrator=info".parse().expect("a directive"));
    }
    if text.split(',').any(|directive| directive.trim().starts_with("h2")) {
        return filter;
    }
    // It warns of what clients do wrong: of each PING that is acknowledged twice, for one. They would
    // fill the disk with it, or hold up the server where nobody reads its standard error.
    filter.add_directive("h2=error".parse().expect("a directive"))
}

/// Opens a socket with a long queue, so that a burst of connections is not turned away: a client whose
/// packet finds it full comes back after a second.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Lets the process have as many open files as the system allows it.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// How many connections there may be: with an address for operators, some files are left to that one,
/// and to what the server reads itself.
fn connections_max(args: &Args) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let left = (files / 2).max(files.saturating_sub(FILES_FOR_OPERATORS));
    if args.admin_listen.is_some() && left < args.max_connections {
        warn!("no more than {left} connections, as there are no more than {files} open files");
        return left;
    }
    args.max_connections
}

/// Has SIGHUP read files again.
fn reload_on_sighup(mut hangup: Signal, access: Access, tls: Option<Tls>) {
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if !access.is_guarded() && tls.is_none() {
                info!("SIGHUP: there is nothing to read again");
            }
            if access.is_guarded() {
                match block_in_place(|| access.reload()) {
                    Ok(count) => info!("SIGHUP: tokens that are known now: {count}"),
                    Err(error) => error!("SIGHUP: the tokens stay as they were: {error}"),
                }
            }
            if let Some(tls) = &tls {
                match block_in_place(|| tls.reload()) {
                    Ok(()) => tell_expiry("SIGHUP: the certificate was read anew", tls),
                    Err(error) => error!("SIGHUP: the certificate stays as it was: {error}"),
                }
            }
        }
    });
}

/// Logs who may do what, as far as somebody should know it.
fn tell_access(args: &Args, access: &Access) {
    let addresses = [Some(args.listen), args.admin_listen];
    let is_reachable = addresses.into_iter().flatten().any(|address| !is_loopback(address));
    match access.token_count() {
        None if is_reachable => {
            warn!("whoever reaches the server may do everything: no tokens are asked for");
        }
        None => {}
        Some(0) => warn!("there is no token yet: nobody may do anything"),
        Some(count) => info!("tokens that are known: {count}"),
    }
    if is_reachable && access.is_guarded() && args.tls_cert.is_none() {
        warn!("tokens are sent in the clear: see --tls-cert");
    }
}

/// Logs what happened to the certificate, and until when it is valid.
fn tell_expiry(what: &str, tls: &Tls) {
    let at = tls.expires_at();
    let until = at.map(|at| format!(", valid until {}", humantime::format_rfc3339_seconds(at)));
    info!("{what}{}", until.unwrap_or_default());
    if at.is_some_and(|at| at <= SystemTime::now()) {
        warn!("the certificate has expired: clients will refuse it");
    }
}

async fn serve(args: &Args) -> io::Result<()> {
    // A failed start anew (see main) may have left this signal deadly.
    let _ignored = signal(SignalKind::pipe())?;
    if let Err(error) = raise_file_limit() {
        warn!("cannot raise the limit on open files: {error}");
    }
    // Before the socket opens: from then on a signal ends the server in good order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Where there is no file to read again, a server of a terminal ends with it.
    let has_files = args.auth_tokens.is_some() || args.tls_cert.is_some();
    let hangup = (has_files || !io::stderr().is_terminal())
        .then(|| signal(SignalKind::hangup()))
        .transpose()?;
    let access = match &args.auth_tokens {
        Some(path) => Access::by_tokens(path.clone())?,
        None => Access::open(),
    };
    let tls = args.tls()?;
    let listeners =
        Listeners { main: listen(args.listen)?, admin: args.admin_listen.map(listen).transpose()? };
    let options = Options {
        ttl: Ttl { key_ttl_ms: args.key_ttl, lease_ttl_ms: args.lease_ttl },
        keys_max: args.max_keys,
        shards: args.shards,
        waiters_max: args.max_waiters,
    };
    let limits = Limits {
        lease_ms_max: args.max_lease.unwrap_or(args.lease_ttl),
        cooldown_ms_max: args.max_cooldown,
        wait_ms_max: args.max_wait,
    };
    let serve_options = ServeOptions {
        connections_max: connections_max(args),
        drain_timeout: Duration::from_millis(args.drain_timeout.into()),
        drain_delay: Duration::from_millis(args.drain_delay.into()),
        access: access.clone(),
        limits,
        tls: tls.clone(),
        ..ServeOptions::default()
    };
    let store = Memory::new(options, SystemClock::new());
    tokio::spawn(store.clone().sweep());
    if let Some(hangup) = hangup {
        reload_on_sighup(hangup, access.clone(), tls.clone());
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    info!("listening on {scheme}://{}", listeners.main.local_addr()?);
    if let Some(admin) = &listeners.admin {
        info!("operators are heard on {scheme}://{}", admin.local_addr()?);
    }
    if let Some(tls) = &tls {
        tell_expiry("speaking TLS", tls);
    }
    tell_access(args, &access);
    let later = match args.drain_delay {
        0 => String::new(),
        ms => format!(" in {}", humantime::format_duration(Duration::from_millis(ms.into()))),
    };
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: shutting down{later}"),
            _ = interrupt.recv() => info!("Ctrl-C: shutting down{later}"),
        }
    };
    http::serve(listeners, Arc::new(store), serve_options, shutdown).await?;
    info!("stopped");
    Ok(())
}
