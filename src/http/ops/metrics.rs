//! `GET /metrics`: everything in the text format of Prometheus.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::readings::Reading;
use super::state::Ops;
use crate::http::meter::{Metrics, Snapshot};
use crate::http::route::Route;
use crate::http::wire::{Problem, respond};
use crate::store::Store;

/// About how long the text is, in bytes.
const TEXT_BYTES: usize = 128 * 1024;

/// A metric by its name, with its doc comment as its help.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $family:ident: $kind:ident = $name:literal;)+) => {
        $(
            $(#[doc = $help])+
            const $family: Family = Family {
                name: concat!("token_orchestrator_", $name),
                help: concat!($($help),+),
                kind: MetricType::$kind,
            };
        )+
    };
}

families! {
    /// Keys that live, by state: free, blocked (leased) or cooling (resting).
    KEYS: GAUGE = "keys";
    /// The most keys there may be at once.
    KEYS_MAX: GAUGE = "keys_max";
    /// Keys that were created.
    CREATED: COUNTER = "keys_created_total";
    /// Keys that died because nobody kept them alive.
    EXPIRED: COUNTER = "keys_expired_total";
    /// Keys that were deleted.
    DELETED: COUNTER = "keys_deleted_total";
    /// Leases that were given, at once or to those who waited.
    LEASES: COUNTER = "leases_total";
    /// Requests for a key that got none: at once, when their time was up, or as their client had gone.
    EMPTY: COUNTER = "lease_empty_total";
    /// Leases that ended by a release.
    RELEASED: COUNTER = "leases_released_total";
    /// Leases that ran out.
    TIMEOUTS: COUNTER = "lease_timeouts_total";
    /// Leases that ended because their keys died or were deleted.
    LOST: COUNTER = "leases_lost_total";
    /// Requests that were refused because the lease that they named was over.
    STALE: COUNTER = "stale_refusals_total";
    /// Requests that wait for a key.
    WAITERS: GAUGE = "waiters";
    /// How late the oldest entry is that the sweep has not come by yet. No deadline waits for it.
    LAG: GAUGE = "sweep_lag_seconds";
    /// Entries of the indexes of deadlines: of lives, and of holds (leases and cool-downs). At most two
    /// for each key.
    ENTRIES: GAUGE = "index_entries";
    /// Places in the vectors that keys are drawn from: live ones, one for each free key, and stale ones,
    /// at most about twice as many.
    HINTS: GAUGE = "free_hints";
    /// Open connections, by the address that they came to.
    CONNECTIONS: GAUGE = "connections";
    /// The most connections there may be at once; further ones wait to be accepted.
    CONNECTIONS_MAX: GAUGE = "connections_max";
    /// Pages that are shown live.
    VIEWERS: GAUGE = "dashboard_viewers";
    /// 1 while requests are welcome, 0 once the server is stopping.
    READY: GAUGE = "ready";
    /// Requests that were answered, but for heads that are malformed or too large.
    REQUESTS: COUNTER = "http_requests_total";
    /// Time from reading requests to having written their answers. On the hot path, which reads and
    /// answers requests in groups, that of the group.
    DURATION: HISTOGRAM = "http_request_duration_seconds";
    /// The version of the server; always 1.
    BUILD: GAUGE = "build_info";
}

type Labels<'a> = &'a [(&'a str, &'a str)];

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
impl Family {
    fn metric(&self, labels: Labels<'_>, value: u64) -> Metric {
        self.metric_f64(labels, value as f64)
    }

    fn metric_f64(&self, labels: Labels<'_>, value: f64) -> Metric {
        let mut metric = Metric::from_label(pairs(labels));
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }

    fn of(&self, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.trim().to_owned());
        family.set_field_type(self.kind);
        family.set_metric(metrics);
        family
    }

    fn one(&self, value: u64) -> MetricFamily {
        self.of(vec![self.metric(&[], value)])
    }

    /// One for each value of a label.
    fn each(&self, label: &str, values: &[(&str, u64)]) -> MetricFamily {
        let metric = |(name, value): &(&str, u64)| self.metric(&[(label, name)], *value);
        self.of(values.iter().map(metric).collect())
    }
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

fn histogram(labels: Labels<'_>, latencies: &Snapshot) -> Metric {
    let buckets = latencies.cumulative().map(|(bound_s, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound_s);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(latencies.count());
    histogram.set_sample_sum(latencies.sum_s());
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_histogram(histogram);
    metric
}

/// Answers with all metrics.
pub(in crate::http) async fn show<S: Store>(State(ops): State<Ops<S>>) -> Response {
    let room = match ops.api.budget.answer(TEXT_BYTES).await {
        Ok(room) => room,
        Err(problem) => return problem.response(),
    };
    let mut families = families(&ops.status.read(&*ops.api.store).await);
    families.extend(requests(&ops.status.metrics));
    families.extend(ProcessCollector::for_self().collect());
    // It fails only for a family without a metric, which those of requests may be.
    families.retain(|family| !family.get_metric().is_empty());
    match TextEncoder::new().encode_to_string(&families) {
        Ok(text) => respond(StatusCode::OK, prometheus::TEXT_FORMAT, room.fill(text.into_bytes())),
        Err(error) => {
            tracing::error!("the metrics cannot be told: {error}");
            Problem::Busy.response()
        }
    }
}

fn families(reading: &Reading) -> Vec<MetricFamily> {
    let Reading { stats, vitals, .. } = reading;
    let totals = &stats.totals;
    let at_once = totals.leases.saturating_sub(vitals.leases_after_waiting);
    #[expect(clippy::cast_precision_loss, reason = "no sweep is that late")]
    let lag_s = vitals.sweep_lag_ms as f64 / 1000.0;
    vec![
        KEYS.each(
            "state",
            &[("free", stats.free), ("blocked", stats.leased), ("cooling", stats.cooling)],
        ),
        KEYS_MAX.one(vitals.keys_max),
        CREATED.one(totals.created),
        EXPIRED.one(totals.expired),
        DELETED.one(totals.deleted),
        LEASES.each(
            "granted",
            &[("at_once", at_once), ("after_waiting", vitals.leases_after_waiting)],
        ),
        EMPTY.one(reading.empty),
        RELEASED.one(totals.releases),
        TIMEOUTS.one(totals.lease_timeouts),
        LOST.one(totals.leases_lost),
        STALE.one(totals.stale_refusals),
        WAITERS.one(vitals.waiting),
        LAG.of(vec![LAG.metric_f64(&[], lag_s)]),
        ENTRIES.each("index", &[("lives", stats.life_entries), ("holds", stats.hold_entries)]),
        HINTS.each(
            "state",
            &[
                ("live", stats.hints.saturating_sub(stats.stale_hints)),
                ("stale", stats.stale_hints),
            ],
        ),
        CONNECTIONS.each(
            "address",
            &[
                ("main", reading.connections.0 as u64),
                ("admin", reading.admin_connections.0 as u64),
            ],
        ),
        CONNECTIONS_MAX.each(
            "address",
            &[
                ("main", reading.connections.1 as u64),
                ("admin", reading.admin_connections.1 as u64),
            ],
        ),
        VIEWERS.one(reading.viewers as u64),
        READY.one(u64::from(reading.is_ready)),
        BUILD.of(vec![BUILD.metric(&[("version", env!("CARGO_PKG_VERSION"))], 1)]),
    ]
}

fn requests(metrics: &Metrics) -> [MetricFamily; 2] {
    let (mut counts, mut latencies) = (Vec::new(), Vec::new());
    for route in Route::ALL {
        let labels = [("method", route.method()), ("route", route.template())];
        for (status, count) in metrics.answers(*route) {
            let status = if status == 0 { "other".to_owned() } else { status.to_string() };
            let labels = [labels[0], labels[1], ("status", &*status)];
            counts.push(REQUESTS.metric(&labels, count));
        }
        let snapshot = metrics.latencies(*route);
        if snapshot.count() > 0 {
            latencies.push(histogram(&labels, &snapshot));
        }
    }
    [REQUESTS.of(counts), DURATION.of(latencies)]
}
