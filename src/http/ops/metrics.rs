//! `GET /metrics`: all metrics in the text format of Prometheus.

use std::time::SystemTime;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::process;
use super::readings::Reading;
use super::state::Ops;
use super::text::{Family, Kind, MEDIA_TYPE, Text, families};
use crate::http::meter::Metrics;
use crate::http::route::Route;
use crate::http::wire::respond;
use crate::store::{IndexSizes, Stats, Store};

/// About how long the text is, in bytes.
const TEXT_BYTES: usize = 128 * 1024;

families! {
    "token_orchestrator_";
    /// Keys by state: free, blocked (leased) or cooling (in a cool-down).
    KEYS: Gauge = "keys";
    /// The most keys that the pool may contain at once.
    KEYS_MAX: Gauge = "keys_max";
    /// Keys that were created.
    CREATED: Counter = "keys_created_total";
    /// Keys that expired because they were not kept alive.
    EXPIRED: Counter = "keys_expired_total";
    /// Keys that were deleted.
    DELETED: Counter = "keys_deleted_total";
    /// Leases that began, at once or after waiting.
    LEASES: Counter = "leases_total";
    /// Requests for a key that got none: at once, after waiting, or because their client hung up.
    EMPTY: Counter = "lease_empty_total";
    /// Leases that ended by a release.
    RELEASED: Counter = "leases_released_total";
    /// Leases that timed out.
    TIMEOUTS: Counter = "lease_timeouts_total";
    /// Leases that ended because their keys expired or were deleted.
    LOST: Counter = "leases_lost_total";
    /// Requests that were refused because the lease in their If-Match was over.
    STALE: Counter = "stale_refusals_total";
    /// Requests that wait for a key.
    WAITERS: Gauge = "waiters";
    /// How long the oldest entry that the sweep has not handled yet is due. No deadline waits for the sweep.
    LAG: Gauge = "sweep_lag_seconds";
    /// Entries of the indexes of deadlines: of lives, and of blocks (leases and cool-downs). At most two
    /// for each key.
    ENTRIES: Gauge = "index_entries";
    /// Hints in the vectors that keys are drawn from: live ones, one for each free key, and stale ones, at
    /// most about twice as many.
    HINTS: Gauge = "free_hints";
    /// Open connections, by the address that accepted them.
    CONNECTIONS: Gauge = "connections";
    /// The most connections that may be open at once; further ones wait to be accepted.
    CONNECTIONS_MAX: Gauge = "connections_max";
    /// Connections that were closed because their clients had as many as --max-connections-per-peer allows.
    CONNECTIONS_REFUSED: Counter = "connections_refused_total";
    /// Dashboards that are open.
    VIEWERS: Gauge = "dashboard_viewers";
    /// 1 while the server is ready for requests, 0 once it is stopping.
    READY: Gauge = "ready";
    /// Requests that were answered, except those with a malformed or too large head.
    REQUESTS: Counter = "http_requests_total";
    /// Time from reading a request to having written its answer. The hot path reads and answers requests in
    /// groups, and counts the time of the group for each of them.
    DURATION: Histogram = "http_request_duration_seconds";
    /// Lines of the log that were dropped because nobody read standard error fast enough, or it took none.
    LOG_DROPPED: Counter = "log_lines_dropped_total";
    /// Lines of the audit log that were lost because the disk or the reader did not take them. Without an audit log
    /// there are none.
    AUDIT_DROPPED: Counter = "audit_lines_dropped_total";
    /// When the certificate of the server expires, in seconds of Unix time. Without TLS there is none.
    CERTIFICATE: Gauge = "certificate_expiry_timestamp_seconds";
    /// The version of the server; always 1.
    BUILD: Gauge = "build_info";
}

/// Answers with all metrics.
pub(in crate::http) async fn show<S: Store>(State(ops): State<Ops<S>>) -> Response {
    let permit = match ops.api.budget.answer(TEXT_BYTES).await {
        Ok(permit) => permit,
        Err(problem) => return problem.response(),
    };
    let mut text = Text::with_capacity(TEXT_BYTES);
    let reading = ops.status.read(&ops.api).await;
    if let Some(stats) = &reading.stats {
        write_stats(&mut text, stats);
    }
    if let Some(lag_ms) = reading.sweep_lag_ms {
        #[expect(clippy::cast_precision_loss, reason = "no sweep is that late")]
        text.one(&LAG, lag_ms as f64 / 1000.0);
    }
    if let Some(sizes) = reading.index_sizes {
        write_index_sizes(&mut text, sizes);
    }
    write_reading(&mut text, &reading);
    write_requests(&mut text, &ops.status.metrics);
    process::write(&mut text);
    respond(StatusCode::OK, MEDIA_TYPE, permit.into_body(text.into_bytes()))
}

fn write_stats(text: &mut Text, stats: &Stats) {
    let (totals, waited) = (&stats.totals, stats.leases_after_waiting);
    let at_once = totals.leases.saturating_sub(waited);
    let by_state = [("free", stats.free), ("blocked", stats.leased), ("cooling", stats.cooling)];
    text.each(&KEYS, "state", &by_state);
    text.one(&KEYS_MAX, stats.keys_max);
    text.one(&CREATED, totals.created);
    text.one(&EXPIRED, totals.expired);
    text.one(&DELETED, totals.deleted);
    text.each(&LEASES, "granted", &[("at_once", at_once), ("after_waiting", waited)]);
    text.one(&RELEASED, totals.releases);
    text.one(&TIMEOUTS, totals.lease_timeouts);
    text.one(&LOST, totals.leases_lost);
    text.one(&STALE, totals.stale_refusals);
    text.one(&WAITERS, stats.waiting);
}

fn write_index_sizes(text: &mut Text, sizes: IndexSizes) {
    let IndexSizes { hints, stale_hints, life_entries, block_entries } = sizes;
    let live_hints = hints.saturating_sub(stale_hints);
    text.each(&ENTRIES, "index", &[("lives", life_entries), ("blocks", block_entries)]);
    text.each(&HINTS, "state", &[("live", live_hints), ("stale", stale_hints)]);
}

fn write_reading(text: &mut Text, reading: &Reading) {
    let (main, admin) = (reading.connections, reading.admin_connections);
    text.one(&EMPTY, reading.empty);
    text.each(&CONNECTIONS, "address", &[("main", main.0 as u64), ("admin", admin.0 as u64)]);
    text.each(&CONNECTIONS_MAX, "address", &[("main", main.1 as u64), ("admin", admin.1 as u64)]);
    text.one(&CONNECTIONS_REFUSED, reading.connections_refused);
    text.one(&VIEWERS, reading.viewers as u64);
    text.one(&READY, u64::from(reading.is_ready));
    text.one(&LOG_DROPPED, reading.log_dropped);
    text.one(&AUDIT_DROPPED, reading.audit_dropped);
    let since_epoch = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
    if let Some(expires) = reading.certificate_expires_at.and_then(since_epoch) {
        text.one(&CERTIFICATE, expires.as_secs());
    }
    text.each(&BUILD, "version", &[(env!("CARGO_PKG_VERSION"), 1)]);
}

fn write_requests(text: &mut Text, metrics: &Metrics) {
    let labels = |route: &Route| [("method", route.method()), ("route", route.template())];
    let mut counts = text.family(&REQUESTS);
    for route in Route::ALL {
        let [method, path] = labels(route);
        for (status, count) in metrics.answers(*route) {
            let status = if status == 0 { "other".to_owned() } else { status.to_string() };
            counts.add(&[method, path, ("status", &*status)], count);
        }
    }
    let mut latencies = text.family(&DURATION);
    for route in Route::ALL {
        let snapshot = metrics.latencies(*route);
        if snapshot.count() > 0 {
            latencies.add_histogram(&labels(route), &snapshot);
        }
    }
}
