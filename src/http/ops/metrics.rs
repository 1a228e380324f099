//! `GET /metrics`: all metrics in the text format of Prometheus.

use std::time::{Duration, SystemTime};

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
use crate::pool::PoolName;
use crate::store::{
    IndexSizes, JournalStats, Listed, RemoteStats, Stats, Store, give_way, together,
};

/// About how long the text is without what is said of each pool, in bytes.
const TEXT_BYTES: usize = 128 * 1024;
/// About how long that is, in bytes.
const POOL_BYTES: usize = 3 * 1024;
/// How many pools are listed at a time.
const PAGE: usize = 100;

families! {
    "token_orchestrator_";
    /// Keys by state: free, blocked (leased) or cooling (in a cool-down).
    KEYS: Gauge = "keys";
    /// The most keys that the pool may have at once.
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
    /// Bytes of the values of keys, in all pools.
    VALUE_BYTES: Gauge = "value_bytes";
    /// The most bytes that the values of keys may have, in all pools.
    VALUE_BYTES_MAX: Gauge = "value_bytes_max";
    /// Bytes that were written to the journal in the data directory. Like the metrics of commits and snapshots, this is
    /// only there with --data-dir.
    JOURNAL_WRITTEN: Counter = "journal_written_bytes_total";
    /// Commits: each writes what has gathered since the last one, and lets the answers leave that wait for it.
    JOURNAL_COMMITS: Counter = "journal_commits_total";
    /// Time that commits took: writing, and with --durability commit also flushing. Their mean is the rate of this
    /// divided by that of commits.
    JOURNAL_COMMIT_TIME: Counter = "journal_commit_seconds_total";
    /// 1 while the disk has room for changes, 0 while they are refused with 503 because it has none.
    JOURNAL_HAS_ROOM: Gauge = "journal_has_room";
    /// Bytes of changes since the last snapshot began, which the next start reads besides the snapshot.
    JOURNAL_SINCE: Gauge = "journal_bytes_since_snapshot";
    /// Snapshots of all keys: those that were written, and those that could not be (failed).
    SNAPSHOTS: Counter = "snapshots_total";
    /// Bytes of the last snapshot, 0 if there is none.
    SNAPSHOT_BYTES: Gauge = "snapshot_bytes";
    /// Calls of the store that several servers share; each is for a group of operations. Like the other metrics of that
    /// store, this is only there with --store.
    STORE_CALLS: Counter = "store_calls_total";
    /// Calls of the store that have failed, and are repeated.
    STORE_FAILED: Counter = "store_calls_failed_total";
    /// Time that calls of the store took. Their mean is the rate of this divided by that of calls.
    STORE_CALL_TIME: Counter = "store_call_seconds_total";
    /// Connections to the store that were replaced because they were of no use any more.
    STORE_REPLACED: Counter = "store_connections_replaced_total";
    /// Shards of pools that do not answer: requests that need them get 503.
    STORE_SILENT: Gauge = "store_silent_shards";
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
    let listed = list(&*ops.api.store).await;
    let bytes = TEXT_BYTES + listed.len() * POOL_BYTES;
    let permit = match ops.api.budget.answer(bytes).await {
        Ok(permit) => permit,
        Err(problem) => return problem.response(),
    };
    let mut text = Text::with_capacity(bytes);
    let reading = ops.status.read(&ops.api).await;
    write_pools(&mut text, &read(&ops, listed).await);
    if let Some(lag_ms) = reading.sweep_lag_ms {
        #[expect(clippy::cast_precision_loss, reason = "no sweep is that late")]
        text.one(&LAG, lag_ms as f64 / 1000.0);
    }
    if let Some(store) = &ops.api.diagnose {
        if let Some((held, max)) = store.value_bytes() {
            text.one(&VALUE_BYTES, held);
            text.one(&VALUE_BYTES_MAX, max);
        }
        if let Some(remote) = store.remote() {
            write_remote(&mut text, &remote);
        }
        if let Some(journal) = store.journal() {
            write_journal(&mut text, &journal);
        }
    }
    write_reading(&mut text, &reading);
    write_requests(&mut text, &ops.status.metrics);
    process::write(&mut text);
    respond(StatusCode::OK, MEDIA_TYPE, permit.into_body(text.into_bytes()))
}

/// What is said of one pool.
struct Counted {
    name: PoolName,
    stats: Stats,
    /// How large its indexes are, if the store has any.
    index_sizes: Option<IndexSizes>,
    /// Requests for a key that got none.
    empty: u64,
}

/// All pools; none if the store does not answer. O(p) for p pools.
async fn list<S: Store>(store: &S) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.to_string());
        let Ok(mut page) = store.list_pools(after.as_deref(), PAGE).await else { return all };
        let is_last = page.len() < PAGE;
        all.append(&mut page);
        if is_last {
            return all;
        }
        give_way().await;
    }
}

/// Counts what is in the pools. Those that have gone meanwhile, or cannot be counted, are left out. O(p s) for p pools of
/// s shards.
async fn read<S: Store>(ops: &Ops<S>, listed: Vec<Listed>) -> Vec<Counted> {
    let stats = together(listed.iter().map(|pool| ops.api.store.stats_of(pool.id))).await;
    let counted = |(Listed { id, name }, stats): (Listed, Result<Stats, _>)| {
        let (index_sizes, empty) = (ops.api.index_sizes(id), ops.status.metrics.without_key(id));
        Some(Counted { name, stats: stats.ok()?, index_sizes, empty })
    };
    listed.into_iter().zip(stats).filter_map(counted).collect()
}

fn write_pools(text: &mut Text, pools: &[Counted]) {
    let mut each = |family: &Family, value: fn(&Counted) -> u64| {
        let mut metrics = text.family(family);
        for pool in pools {
            metrics.add(&[("pool", pool.name.as_str())], value(pool));
        }
    };
    each(&KEYS_MAX, |pool| pool.stats.keys_max);
    each(&CREATED, |pool| pool.stats.totals.created);
    each(&EXPIRED, |pool| pool.stats.totals.expired);
    each(&DELETED, |pool| pool.stats.totals.deleted);
    each(&EMPTY, |pool| pool.empty);
    each(&RELEASED, |pool| pool.stats.totals.releases);
    each(&TIMEOUTS, |pool| pool.stats.totals.lease_timeouts);
    each(&LOST, |pool| pool.stats.totals.leases_lost);
    each(&STALE, |pool| pool.stats.totals.stale_refusals);
    each(&WAITERS, |pool| pool.stats.waiting);
    let mut parts =
        |family: &Family, part: &str, values: fn(&Counted) -> Vec<(&'static str, u64)>| {
            let mut metrics = text.family(family);
            for pool in pools {
                for (name, value) in values(pool) {
                    metrics.add(&[("pool", pool.name.as_str()), (part, name)], value);
                }
            }
        };
    parts(&KEYS, "state", |Counted { stats, .. }| {
        vec![("free", stats.free), ("blocked", stats.leased), ("cooling", stats.cooling)]
    });
    parts(&LEASES, "granted", |Counted { stats, .. }| {
        let (all, waited) = (stats.totals.leases, stats.leases_after_waiting);
        vec![("at_once", all.saturating_sub(waited)), ("after_waiting", waited)]
    });
    parts(&ENTRIES, "index", |Counted { index_sizes, .. }| {
        let Some(sizes) = index_sizes else { return Vec::new() };
        vec![("lives", sizes.life_entries), ("blocks", sizes.block_entries)]
    });
    parts(&HINTS, "state", |Counted { index_sizes, .. }| {
        let Some(sizes) = index_sizes else { return Vec::new() };
        let live = sizes.hints.saturating_sub(sizes.stale_hints);
        vec![("live", live), ("stale", sizes.stale_hints)]
    });
}

fn write_journal(text: &mut Text, journal: &JournalStats) {
    text.one(&JOURNAL_WRITTEN, journal.written_bytes);
    text.one(&JOURNAL_COMMITS, journal.commits);
    text.one(&JOURNAL_COMMIT_TIME, Duration::from_nanos(journal.commit_ns).as_secs_f64());
    text.one(&JOURNAL_HAS_ROOM, u64::from(journal.has_room));
    text.one(&JOURNAL_SINCE, journal.bytes_since_snapshot);
    let outcomes = [("written", journal.snapshots_written), ("failed", journal.snapshots_failed)];
    text.each(&SNAPSHOTS, "outcome", &outcomes);
    text.one(&SNAPSHOT_BYTES, journal.snapshot_bytes);
}

fn write_remote(text: &mut Text, remote: &RemoteStats) {
    text.one(&STORE_CALLS, remote.calls);
    text.one(&STORE_FAILED, remote.failed);
    text.one(&STORE_CALL_TIME, Duration::from_nanos(remote.call_ns).as_secs_f64());
    text.one(&STORE_REPLACED, remote.connections_replaced);
    text.one(&STORE_SILENT, remote.silent_shards);
}

fn write_reading(text: &mut Text, reading: &Reading) {
    let (main, admin) = (reading.connections, reading.admin_connections);
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
