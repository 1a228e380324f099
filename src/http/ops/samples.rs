//! The samples that the dashboard shows. The server takes one each second, also without viewers.
//!
//! All viewers get the same bytes, and a slow viewer misses some. So a viewer costs a copy of less than a
//! kilobyte each second.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::error;

use super::alarms::Alarms;
use super::readings::{Status, resident_bytes};
use crate::http::api::Api;
use crate::http::api::stats::Stats;
use crate::http::meter::Snapshot;
use crate::store::Store;

/// Between two samples.
const SAMPLE_MS: u64 = 1000;
/// How many samples are kept for new viewers: those of five minutes.
const SAMPLES_MAX: usize = 300;

/// The values of one moment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    /// Milliseconds of Unix time.
    at: u64,
    stats: Stats,
    sweep_lag_ms: Option<u64>,
    connections: usize,
    /// Requests that were answered since the start.
    requests: u64,
    resident_bytes: Option<u64>,
    /// Latencies of the requests since the previous sample, if there were any.
    latency_us: Option<Latency>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

/// The last samples.
pub(in crate::http) struct Samples {
    samples: Mutex<VecDeque<String>>,
    /// The last one as an event.
    latest: watch::Sender<Bytes>,
}

impl Default for Samples {
    fn default() -> Self {
        Self { samples: Mutex::default(), latest: watch::Sender::new(Bytes::new()) }
    }
}

impl Samples {
    /// Takes a sample each second; never returns. A panic is logged, and it goes on after a second.
    pub(in crate::http) async fn sample<S: Store>(
        self: Arc<Self>,
        api: Api<S>,
        status: Arc<Status>,
    ) {
        loop {
            let samples = self.sample_until_panic(&api, &status);
            let Err(_) = AssertUnwindSafe(samples).catch_unwind().await;
            error!("the sampling for the dashboard panicked; it is started again in a second");
            sleep(Duration::from_millis(SAMPLE_MS)).await;
        }
    }

    async fn sample_until_panic<S: Store>(&self, api: &Api<S>, status: &Status) -> Infallible {
        let mut ticks = interval(Duration::from_millis(SAMPLE_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut alarms) = (Snapshot::default(), Alarms::default());
        loop {
            ticks.tick().await;
            let reading = status.read(api).await;
            status.metrics.retain_pools(|pool| api.store.name_of(pool).is_some());
            alarms.look(&reading, status.metrics.with_status(503));
            // While the store does not answer, the page shows a gap.
            let Some(counts) = &reading.stats else { continue };
            let latencies = status.metrics.all_latencies();
            let recent = latencies.since(&before);
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let sample = Sample {
                at: since_epoch.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0)),
                sweep_lag_ms: reading.sweep_lag_ms,
                connections: reading.connections.0 + reading.admin_connections.0,
                requests: status.metrics.requests(),
                resident_bytes: resident_bytes(),
                latency_us: Latency::of(&recent),
                stats: Stats::of(counts, reading.index_sizes.as_ref()),
            };
            before = latencies;
            self.add(serde_json::to_string(&sample).expect("numbers"));
        }
    }

    fn add(&self, sample: String) {
        let event = event("sample", &sample);
        let mut samples = self.samples.lock();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
        // Under the lock, so that a new viewer gets the sample either in the history or as an event.
        self.latest.send_replace(event.into());
    }

    /// The first events for a new viewer, and a receiver of the following ones.
    pub(super) fn join(&self) -> (String, watch::Receiver<Bytes>) {
        let mut samples = self.samples.lock();
        let latest = self.latest.subscribe();
        let history = samples.make_contiguous().join(",");
        drop(samples);
        let version = env!("CARGO_PKG_VERSION");
        let hello = format!(r#"{{"version":"{version}","sampleMs":{SAMPLE_MS}}}"#);
        (event("hello", &hello) + &event("history", &format!("[{history}]")), latest)
    }
}

impl Latency {
    fn of(latencies: &Snapshot) -> Option<Self> {
        let quantile = |share| latencies.quantile_us(share);
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(quantile);
        Some(Self { p50: p50?, p90: p90?, p99: p99?, p999: p999? })
    }
}

/// A server-sent event in the form of the HTML standard. `data` is one line.
fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
