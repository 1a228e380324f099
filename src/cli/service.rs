//! The service manager, such as systemd, which is told how the server is (see `sd_notify(3)`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::http::Heartbeat;

/// The variable that names the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The pause before a message that could not be sent is sent again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Tells the manager, if there is one. Clones tell the same one.
///
/// Nothing here blocks: a message that the manager has no room for is lost, or sent again at the next beat.
#[derive(Clone)]
pub(super) struct Service(Option<Arc<Manager>>);

struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often the manager wants to hear of the server, if it does.
    watchdog: Option<Duration>,
    /// The manager knows that the server is ready, or that it is stopping.
    is_told: AtomicBool,
}

impl Service {
    /// The manager that the environment names. A wrong name is no reason not to serve: it is logged.
    pub(super) fn from_environment() -> Self {
        let name = env::var_os(SOCKET).filter(|name| !name.is_empty());
        let manager = name.and_then(|name| match Manager::new(&name) {
            Ok(manager) => Some(Arc::new(manager)),
            Err(error) => {
                warn!("{SOCKET}={}: {error}; the service manager is told nothing", name.display());
                None
            }
        });
        Self(manager)
    }

    /// Tells at the first beat that the server is ready, and then, as often as the manager wants it, that it
    /// still serves.
    pub(super) fn heartbeat(&self, status: String) -> Option<Heartbeat> {
        let manager = Arc::clone(self.0.as_ref()?);
        Some(Arc::new(move || {
            if manager.is_told.load(SeqCst) {
                manager.send("WATCHDOG=1");
            } else if manager.send(&format!("READY=1\nWATCHDOG=1\nSTATUS={status}")) {
                manager.is_told.store(true, SeqCst);
            } else {
                return Some(RETRY_PAUSE);
            }
            manager.watchdog
        }))
    }

    /// Tells that a reload begins.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=Reloading"));
    }

    /// Tells that a reload has ended, with what came of it in one line.
    pub(super) fn reloaded(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Tells that the server stops.
    pub(super) fn stopping(&self) {
        if let Some(manager) = &self.0 {
            manager.is_told.store(true, SeqCst);
        }
        self.send("STOPPING=1\nSTATUS=Stopping: requests in flight are still answered");
    }

    fn send(&self, message: &str) {
        if let Some(manager) = &self.0 {
            manager.send(message);
        }
    }
}

impl Manager {
    fn new(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let what = "it must be a path, or @ and the name of an abstract socket";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // Another process may be meant, whose environment this one has inherited.
        let is_meant =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit_us = number("WATCHDOG_USEC").filter(|us| is_meant && *us > 0);
        // Half of the time, as systemd recommends, so that one beat may be late.
        let watchdog = limit_us.map(|us| Duration::from_micros((us / 2).max(1)));
        Ok(Self { socket, address, watchdog, is_told: AtomicBool::new(false) })
    }

    /// Sends a message. Returns whether it was sent.
    fn send(&self, message: &str) -> bool {
        let sent = self.socket.send_to_addr(message.as_bytes(), &self.address);
        if let Err(error) = &sent {
            let what = message.lines().next().unwrap_or_default();
            warn!("the service manager was not told {what}: {error}; see {SOCKET}");
        }
        sent.is_ok()
    }
}
