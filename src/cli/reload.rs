//! SIGHUP: the files of tokens and certificates are read again, and that of the audit log is opened again.

use std::time::SystemTime;

use tokio::signal::unix::Signal;
use tokio::task::block_in_place;
use tracing::{error, info, warn};

use super::audit::AuditFile;
use super::service::Service;
use crate::http::{Access, Tls};

/// What an empty file of tokens means.
pub(super) const NO_TOKEN: &str = "it has no token, so requests are refused with 401; add a line that `token \
    new --role client` prints, and send SIGHUP";

/// The files of a server.
pub(super) struct Files {
    pub(super) access: Access,
    pub(super) tls: Option<Tls>,
    pub(super) audit: Option<AuditFile>,
}

/// Reloads the files at each SIGHUP. `status` is what the service manager is told of a server that serves.
pub(super) fn on_sighup(mut hangup: Signal, files: Files, service: Service, status: String) {
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            service.reloading();
            let kept = files.reload();
            let what = (!kept.is_empty())
                .then(|| format!("; the last reload kept the previous {}", kept.join(" and ")));
            service.reloaded(&format!("{status}{}", what.unwrap_or_default()));
        }
    });
}

impl Files {
    /// Reads the files again. Returns what could not be read, and so stays as it was.
    fn reload(&self) -> Vec<&'static str> {
        let Self { access, tls, audit } = self;
        let mut kept = Vec::new();
        if !access.is_guarded() && tls.is_none() && audit.is_none() {
            info!(
                "SIGHUP: nothing to reload: there is no --auth-tokens, no --tls-cert and no file of \
                 --audit-log"
            );
        }
        if access.is_guarded() {
            match block_in_place(|| access.reload()) {
                Ok(0) => warn!("SIGHUP: reloaded the file of tokens; {NO_TOKEN}"),
                Ok(count) => info!("SIGHUP: reloaded the file of tokens; tokens: {count}"),
                Err(error) => {
                    error!("SIGHUP: kept the previous tokens: {error}");
                    kept.push("tokens");
                }
            }
        }
        if let Some(tls) = tls {
            match block_in_place(|| tls.reload()) {
                Ok(()) => log_certificate("SIGHUP: reloaded the certificate", tls),
                Err(error) => {
                    error!("SIGHUP: kept the previous certificate: {error}");
                    kept.push("certificate");
                }
            }
        }
        if let Some(audit) = audit {
            match block_in_place(|| audit.reopen()) {
                Ok(()) => info!("SIGHUP: opened the audit log again"),
                Err(error) => {
                    error!("SIGHUP: kept the previous file of the audit log: {error}");
                    kept.push("audit log");
                }
            }
        }
        kept
    }
}

/// Logs an event with the certificate, and until when the certificate is valid.
pub(super) fn log_certificate(event: &str, tls: &Tls) {
    let at = tls.expires_at();
    let until = at.map(|at| format!(", valid until {}", humantime::format_rfc3339_seconds(at)));
    info!("{event}{}", until.unwrap_or_default());
    if at.is_some_and(|at| at <= SystemTime::now()) {
        warn!("the certificate has expired, and clients refuse it; replace it and send SIGHUP");
    }
}
