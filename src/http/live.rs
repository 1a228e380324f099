//! `/dashboard`: a page that shows the server live, and the events that it lives on.
//!
//! The server looks at itself once a second, whoever watches. All viewers get the same bytes, and one who
//! is slow misses some: so a viewer costs a copy of less than a kilobyte a second.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::error;

use super::alarms::Alarms;
use super::error::Problem;
use super::metrics::histogram::Snapshot;
use super::stats::Stats;
use super::status::{Status, resident_bytes};
use super::{Api, respond};
use crate::store::Store;

/// Between two samples.
const SAMPLE_MS: u64 = 1000;
/// How many samples are kept for those who come: five minutes.
const SAMPLES_MAX: usize = 300;

/// How much of the history is given at a time.
const PIECE_BYTES: usize = 4096;
/// How long a viewer may take for a piece.
const TAKING_TIMEOUT: Duration = Duration::from_secs(30);

const PAGE: &str = include_str!("dashboard.html");

/// What the page shows of one moment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    /// Milliseconds of Unix time.
    at: u64,
    stats: Stats,
    sweep_lag_ms: u64,
    connections: usize,
    /// Answered since the start.
    requests: u64,
    resident_bytes: Option<u64>,
    /// Of the requests since the sample before; without any there is none.
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
pub(super) struct Live {
    samples: Mutex<VecDeque<String>>,
    /// The last one as an event.
    latest: watch::Sender<Bytes>,
}

impl Default for Live {
    fn default() -> Self {
        Self { samples: Mutex::default(), latest: watch::Sender::new(Bytes::new()) }
    }
}

impl Live {
    /// Takes a sample each second; never returns. A panic is logged, and it goes on after a second.
    pub(super) async fn sample<S: Store>(store: Arc<S>, status: Arc<Status>) {
        loop {
            let samples = Self::sample_until_panic(&*store, &status);
            let Err(_) = AssertUnwindSafe(samples).catch_unwind().await;
            error!("the samples panicked; they go on in a second");
            sleep(Duration::from_millis(SAMPLE_MS)).await;
        }
    }

    async fn sample_until_panic<S: Store>(store: &S, status: &Status) -> Infallible {
        let mut ticks = interval(Duration::from_millis(SAMPLE_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut alarms) = (Snapshot::default(), Alarms::default());
        loop {
            ticks.tick().await;
            let reading = status.read(store).await;
            alarms.look(&reading, status.metrics.with_status(503));
            let latencies = status.metrics.all_latencies();
            let recent = latencies.since(&before);
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let sample = Sample {
                at: since_epoch.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0)),
                sweep_lag_ms: reading.vitals.sweep_lag_ms,
                connections: reading.connections.0 + reading.admin_connections.0,
                requests: status.metrics.requests(),
                resident_bytes: resident_bytes(),
                latency_us: Latency::of(&recent),
                stats: Stats::of(&reading.stats, reading.vitals.waiting),
            };
            before = latencies;
            status.live.add(serde_json::to_string(&sample).expect("numbers"));
        }
    }

    fn add(&self, sample: String) {
        let event = event("sample", &sample);
        let mut samples = self.samples.lock();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
        // Under the lock: who comes finds it in the history or is told, and not both.
        self.latest.send_replace(event.into());
    }

    /// What a viewer is told first, and what tells it of more.
    fn join(&self) -> (String, watch::Receiver<Bytes>) {
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

/// An event as the HTML standard writes it; `data` is one line.
fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// `GET /dashboard`: the page. It holds no data.
pub(super) fn page(policy: HeaderValue) -> Response {
    let page = Bytes::from_static(PAGE.as_bytes());
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", page.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// What the page may do: run what is written in it, and ask this server.
pub(super) fn policy() -> HeaderValue {
    let hash = |element: &str| {
        let begin = PAGE.find(&format!("<{element}>")).map(|at| at + element.len() + 2);
        let end = PAGE.find(&format!("</{element}>"));
        let text = begin.zip(end).map_or("", |(begin, end)| &PAGE[begin..end]);
        BASE64_STANDARD.encode(Sha256::digest(text))
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; \
         require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    );
    HeaderValue::try_from(policy).expect("it is ASCII")
}

/// `GET /dashboard/events`: what the page lives on, as server-sent events: the last minutes, and from then
/// on a sample a second, until the server stops.
pub(super) async fn events<S: Store>(State(api): State<Api<S>>) -> Response {
    let Some(place) = api.status.viewers.try_take() else {
        return Problem::TooManyViewers.response();
    };
    // A task of its own: a body is not asked for more by a client that does not listen.
    let (pieces, mut given) = mpsc::channel(1);
    tokio::spawn(feed(Arc::clone(&api.status), api.stopped, pieces, place));
    let events = stream::poll_fn(move |cx| given.poll_recv(cx)).map(Ok::<_, Infallible>);
    respond(StatusCode::OK, "text/event-stream", Body::from_stream(events))
}

/// Feeds a viewer until it goes, or takes nothing for too long, or the server stops.
async fn feed(
    status: Arc<Status>,
    mut stopped: watch::Receiver<()>,
    pieces: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
) {
    let joined = status.access.generation();
    let (first, mut latest) = status.live.join();
    let feed = async {
        // Copies, so that a client that stops listening keeps no more than a piece.
        for piece in first.as_bytes().chunks(PIECE_BYTES) {
            give(&pieces, piece).await?;
        }
        drop(first);
        loop {
            latest.changed().await.ok()?;
            // Whoever watches by a token that is of no more use shall come again, and be refused.
            if status.access.generation() != joined {
                return None::<Infallible>;
            }
            let sample = latest.borrow_and_update().clone();
            give(&pieces, &sample).await?;
        }
    };
    tokio::select! {
        biased;
        _ = stopped.changed() => {}
        () = pieces.closed() => {}
        _ = feed => {}
    }
}

async fn give(pieces: &mpsc::Sender<Bytes>, piece: &[u8]) -> Option<()> {
    let given = timeout(TAKING_TIMEOUT, pieces.send(Bytes::copy_from_slice(piece))).await;
    given.ok()?.ok()
}
