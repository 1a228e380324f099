//! The samples that the dashboard shows. The server takes one each second, also without viewers.
//!
//! All viewers of the default pool get the same bytes, and a slow viewer misses some. So a viewer costs a copy of less
//! than a kilobyte each second. For a viewer of another pool, the counts of that pool are read each second.

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
use crate::error::Error;
use crate::http::api::Api;
use crate::http::api::stats::Stats;
use crate::http::meter::Snapshot;
use crate::pool::PoolId;
use crate::store::Store;

/// Between two samples.
const SAMPLE_MS: u64 = 1000;
/// How many samples are kept for new viewers: those of five minutes.
const SAMPLES_MAX: usize = 300;

/// The values of one moment.
#[derive(Serialize)]
struct Sample {
    /// Milliseconds of Unix time.
    at: u64,
    stats: Stats,
    #[serde(flatten)]
    server: Option<OfServer>,
}

/// What concerns the whole server.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfServer {
    sweep_lag_ms: Option<u64>,
    connections: usize,
    /// Requests that were answered since the start.
    requests: u64,
    resident_bytes: Option<u64>,
    /// Latencies of the requests since the previous sample, if there were any.
    latency_us: Option<Latency>,
}

#[derive(Clone, Copy, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

/// What a viewer sees.
#[derive(Clone, Copy)]
pub(super) enum View {
    /// The default pool, with all samples that are kept, and the server.
    Default,
    /// A pool, and the server if the viewer may see it.
    Pool { pool: PoolId, with_server: bool },
}

/// What was measured at one moment.
#[derive(Clone, Default)]
pub(super) struct Moment {
    at: u64,
    server: OfServer,
    /// The sample of the default pool as an event.
    event: Bytes,
}

/// The last samples.
pub(in crate::http) struct Samples {
    samples: Mutex<VecDeque<String>>,
    latest: watch::Sender<Moment>,
}

impl Default for Samples {
    fn default() -> Self {
        Self { samples: Mutex::default(), latest: watch::Sender::new(Moment::default()) }
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
            let at = since_epoch.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0));
            let server = OfServer {
                sweep_lag_ms: reading.sweep_lag_ms,
                connections: reading.connections.0 + reading.admin_connections.0,
                requests: status.metrics.requests(),
                resident_bytes: resident_bytes(),
                latency_us: Latency::of(&recent),
            };
            before = latencies;
            self.add(at, Stats::of(counts, reading.index_sizes.as_ref()), server);
        }
    }

    fn add(&self, at: u64, stats: Stats, server: OfServer) {
        let sample = Sample { at, stats, server: Some(server) }.to_json();
        let event = event("sample", &sample).into();
        let mut samples = self.samples.lock();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
        // Under the lock, so that a new viewer gets the sample either in the history or as an event.
        self.latest.send_replace(Moment { at, server, event });
    }

    /// The first events for a new viewer, and a receiver of the following ones.
    pub(super) fn join(&self, view: View) -> (String, watch::Receiver<Moment>) {
        let mut samples = self.samples.lock();
        let latest = self.latest.subscribe();
        let history = match view {
            View::Default => samples.make_contiguous().join(","),
            View::Pool { .. } => String::new(),
        };
        drop(samples);
        let version = env!("CARGO_PKG_VERSION");
        let hello = format!(r#"{{"version":"{version}","sampleMs":{SAMPLE_MS}}}"#);
        (event("hello", &hello) + &event("history", &format!("[{history}]")), latest)
    }
}

impl Moment {
    /// The sample that a viewer gets of this moment. O(1) for the default pool, and O(s) for another one with s shards.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::Unavailable`]
    pub(super) async fn event<S: Store>(self, view: View, api: &Api<S>) -> Result<Bytes, Error> {
        let View::Pool { pool, with_server } = view else { return Ok(self.event) };
        let stats = api.store.stats_of(pool).await?;
        let stats = Stats::of(&stats, api.index_sizes(pool).as_ref());
        let sample = Sample { at: self.at, stats, server: with_server.then_some(self.server) };
        Ok(event("sample", &sample.to_json()).into())
    }
}

impl Sample {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers")
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
