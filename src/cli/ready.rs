//! A server whose store is open: what it says of itself, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

use super::audit::AuditFile;
use super::reload::{self, Files, NO_TOKEN, log_certificate};
use super::service::Service;
use crate::http::{self, Access, Listeners, ServeOptions, Tls};
use crate::store::Store;

/// All that the server needs but its store.
pub(super) struct Ready {
    pub(super) listeners: Listeners,
    pub(super) options: ServeOptions,
    pub(super) access: Access,
    pub(super) tls: Option<Tls>,
    pub(super) audit_file: Option<AuditFile>,
    pub(super) hangup: Option<Signal>,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

impl Ready {
    /// Serves until SIGTERM or Ctrl-C.
    pub(super) async fn serve<S: Store>(mut self, store: Arc<S>) -> io::Result<()> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let main = self.listeners.main.local_addr()?;
        info!("listening on {scheme}://{main}");
        let admin = self.listeners.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        if let Some(admin) = admin {
            info!("listening for operators on {scheme}://{admin}");
        }
        let operators = admin.unwrap_or(main);
        info!(
            "dashboard: {scheme}://{operators}/dashboard, documentation: {scheme}://{operators}/docs/"
        );
        if let Some(tls) = &self.tls {
            log_certificate("speaking TLS", tls);
        }
        self.log_access([Some(main), admin]);
        let (service, status) = (Service::from_environment(), format!("Serving {scheme}://{main}"));
        self.options.heartbeat = service.heartbeat(status.clone());
        if let Some(hangup) = self.hangup {
            let files = Files { access: self.access, tls: self.tls, audit: self.audit_file };
            reload::on_sighup(hangup, files, service.clone(), status);
        }
        let delay = match self.options.drain_delay {
            Duration::ZERO => String::new(),
            delay => format!(" in {}", humantime::format_duration(delay)),
        };
        let (mut terminate, mut interrupt) = (self.terminate, self.interrupt);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: shutting down{delay}"),
                _ = interrupt.recv() => info!("Ctrl-C: shutting down{delay}"),
            }
            service.stopping();
        };
        http::serve(self.listeners, store, self.options, shutdown).await
    }

    /// Logs how access is restricted, and warns where it is not.
    fn log_access(&self, addresses: [Option<SocketAddr>; 2]) {
        let is_reachable = addresses.into_iter().flatten().any(|address| !is_loopback(address));
        match self.access.token_count() {
            None if is_reachable => {
                warn!(
                    "every client that reaches the server may do everything; ask for tokens with \
                     --auth-tokens FILE"
                );
            }
            None => {}
            Some(0) => warn!("the file of tokens: {NO_TOKEN}"),
            Some(count) => info!("tokens: {count}"),
        }
        if is_reachable && self.access.is_guarded() && self.tls.is_none() {
            warn!("tokens are sent unencrypted; speak TLS with --tls-cert FILE and --tls-key FILE");
        }
    }
}

/// Whether only this machine can reach an address.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
