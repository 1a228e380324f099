//! SIGHUP: the files of tokens and certificates are read again.

use std::time::SystemTime;

use tokio::signal::unix::Signal;
use tokio::task::block_in_place;
use tracing::{error, info, warn};

use super::service::Service;
use crate::http::{Access, Tls};

/// What an empty file of tokens means.
pub(super) const NO_TOKEN: &str = "it has no token, so requests are refused with 401; add a line that `token \
    new --role client` prints, and send SIGHUP";

/// Reloads the files at each SIGHUP. `status` is what the service manager is told of a server that serves.
pub(super) fn on_sighup(
    mut hangup: Signal,
    access: Access,
    tls: Option<Tls>,
    service: Service,
    status: String,
) {
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            service.reloading();
            let kept = reload(&access, tls.as_ref());
            let what = kept.map(|what| format!("; the last reload kept the previous {what}"));
            service.reloaded(&format!("{status}{}", what.unwrap_or_default()));
        }
    });
}

/// Reads the files again. Returns what could not be read, and so stays as it was.
fn reload(access: &Access, tls: Option<&Tls>) -> Option<&'static str> {
    let mut kept = None;
    if !access.is_guarded() && tls.is_none() {
        info!("SIGHUP: nothing to reload: there is no --auth-tokens and no --tls-cert");
    }
    if access.is_guarded() {
        match block_in_place(|| access.reload()) {
            Ok(0) => warn!("SIGHUP: reloaded the file of tokens; {NO_TOKEN}"),
            Ok(count) => info!("SIGHUP: reloaded the file of tokens; tokens: {count}"),
            Err(error) => {
                error!("SIGHUP: kept the previous tokens: {error}");
                kept = Some("tokens");
            }
        }
    }
    if let Some(tls) = tls {
        match block_in_place(|| tls.reload()) {
            Ok(()) => log_certificate("SIGHUP: reloaded the certificate", tls),
            Err(error) => {
                error!("SIGHUP: kept the previous certificate: {error}");
                kept = Some(kept.map_or("certificate", |_| "tokens and certificate"));
            }
        }
    }
    kept
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
