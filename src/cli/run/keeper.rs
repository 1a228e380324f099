//! Holds a lease: renews it and keeps its key alive.

use std::time::{Duration, SystemTime};

use hyper::Method;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::client::{Answer, ApiRequest, Client, Failure};
use crate::cli::commands::NO_FREE_KEY;
use crate::cli::report::report;
use crate::config::parse_max_ms;
use crate::key::KeyId;

/// How long one attempt to reach the server may take.
const TRY_MAX: Duration = Duration::from_secs(5);
/// The longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The shortest pause between two attempts.
const RETRY_MIN: Duration = Duration::from_millis(10);
/// The longest time between renewals. A release by another client is noticed within this time.
const RENEWAL_MAX: Duration = Duration::from_secs(20);
/// How long leasing and releasing may take, in addition to the time to wait for a key.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a 404 means while the lease lasts.
pub(super) const KEY_GONE: &str = "the key has expired or was deleted.";

/// How the key is leased. Times are in milliseconds.
#[derive(clap::Args, Clone, Copy)]
pub(in crate::cli) struct LeaseOptions {
    /// How long the lease lasts without a renewal, such as 30s. If this program is killed, the key is free
    /// after that time
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    lease: Option<u32>,
    /// How long to wait if no key is free, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    wait: Option<u32>,
    /// How long the key cools down after CMD before it can be leased again, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    cooldown: Option<u32>,
}

impl LeaseOptions {
    /// How long leasing a key may take.
    pub(super) fn wait_max(&self) -> Duration {
        Duration::from_millis(self.wait.unwrap_or(0).into()) + PATIENCE
    }
}

/// Holds one lease.
pub(super) struct Keeper {
    client: Client,
    options: LeaseOptions,
    id: String,
    etag: String,
    /// How long the lease lasts from a renewal on.
    length: Duration,
    lease_ends: Instant,
    life_ends: Instant,
    /// When to renew the lease next.
    next_renewal: Instant,
}

impl Keeper {
    /// Leases a key. The time since `began` counts as time waited.
    ///
    /// # Errors
    ///
    /// The message for the user, if no key could be leased.
    pub(super) async fn lease(
        client: Client,
        options: LeaseOptions,
        began: Instant,
    ) -> Result<Self, String> {
        let waited = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let wait = options.wait.map(|ms| ms.saturating_sub(waited).max(1));
        let request = ApiRequest::new(Method::GET, "keys").ms("lease", options.lease).wait(wait);
        let message = |failure: Failure| failure.message(NO_FREE_KEY);
        let lease = client.send(request).await.map_err(message)?;
        let (id, etag) = (lease.text("keyId"), lease.header("etag"));
        // The id becomes part of paths, so it is checked.
        let id = id.filter(|id| id.parse::<KeyId>().is_ok());
        let (Some(id), Some(etag)) = (id.map(str::to_owned), etag.map(str::to_owned)) else {
            return Err("the answer names no key: check that --server is the address of a \
                        token-orchestrator, such as http://localhost:8080."
                .to_owned());
        };
        let (now, length) = (Instant::now(), Duration::ZERO);
        let (lease_ends, life_ends, next_renewal) = (now + PATIENCE, now + PATIENCE, now);
        Ok(Self { client, options, id, etag, length, lease_ends, life_ends, next_renewal })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Asks the server how long the lease lasts, and renews it.
    ///
    /// # Errors
    ///
    /// If the key or its lease is gone, or the server does not answer in time.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        loop {
            let failure = match self.measure().await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.is_final() || self.left().is_zero() {
                return Err(failure);
            }
            sleep(self.pause()).await;
        }
    }

    async fn measure(&mut self) -> Result<(), Failure> {
        let show = ApiRequest::new(Method::GET, format!("keys/{}", self.id)).within(TRY_MAX);
        let info = self.client.send(show).await?;
        let (began, ends) = (info.text("blockedAt").and_then(parse_time), time(&info, LEASE));
        let (Some(began), Some(ends), true) =
            (began, ends, info.header("etag") == Some(&self.etag))
        else {
            return Err(Failure::Lost(
                "the lease was over at once: lease for longer, such as with --lease 30s."
                    .to_owned(),
            ));
        };
        // Both times are the server's, so its clock need not agree with the one here.
        self.length = ends.duration_since(began).unwrap_or_default();
        self.renew().await?;
        if self.left().is_zero() {
            return Err(Failure::NoAnswer(
                "the lease ended before the server had answered: lease for longer, such as with \
                 --lease 30s"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Renews the lease and keeps the key alive until the lease is lost. Returns why it was lost.
    pub(super) async fn keep(&mut self) -> String {
        loop {
            sleep_until(self.next_renewal).await;
            match self.renew().await {
                Ok(()) => {}
                Err(failure) if failure.is_final() || self.left().is_zero() => {
                    return failure.message(KEY_GONE);
                }
                Err(_) => self.next_renewal = Instant::now() + self.pause(),
            }
        }
    }

    /// Keeps the key alive and renews the lease.
    ///
    /// A renewed lease begins when the server has read the request, which is after the request was sent.
    /// So the deadlines computed here are a little early, and never late.
    async fn renew(&mut self) -> Result<(), Failure> {
        let patience = (self.left() / 2).clamp(RETRY_MIN, TRY_MAX);
        let life = ApiRequest::new(Method::PUT, format!("keepalive/{}", self.id)).within(patience);
        let life = self.client.send(life).await?;
        let sent = Instant::now();
        let lease =
            ApiRequest::new(Method::PUT, format!("keys/{}/lease", self.id)).within(patience);
        let lease = lease.ms("lease", self.options.lease).if_match(Some(&self.etag));
        let lease = self.client.send(lease).await?;
        let (Some(life_ends), Some(ends)) = (time(&life, LIFE), time(&lease, LEASE)) else {
            return Err(Failure::NoAnswer("the answer names no deadline".to_owned()));
        };
        // The server's time at which the renewed lease began.
        let began = ends - self.length;
        self.lease_ends = sent + self.length;
        self.life_ends = sent + life_ends.duration_since(began).unwrap_or_default();
        self.next_renewal = Instant::now() + (self.left() / 3).min(RENEWAL_MAX);
        Ok(())
    }

    /// Releases the key. If the server does not answer, the lease times out.
    pub(super) async fn release(&self) {
        let (mut cooldown, until) = (self.options.cooldown, Instant::now() + PATIENCE);
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(RETRY_MIN);
            let request = ApiRequest::new(Method::PUT, format!("keys/{}", self.id)).within(left);
            let request = request.ms("cooldown", cooldown).if_match(Some(&self.etag));
            let failure = match self.client.send(request).await {
                Err(failure) if !failure.is_final() => failure,
                _ => return,
            };
            if matches!(failure, Failure::Refused { status: 400, .. }) && cooldown.is_some() {
                let why = failure.message(KEY_GONE);
                report(&format!("error: the key does not cool down: {why}"));
                cooldown = None;
            } else if Instant::now() >= until {
                let why = failure.message(KEY_GONE);
                report(&format!(
                    "error: the key was not released: {why} It is free when its lease times out."
                ));
                return;
            } else {
                sleep(RETRY_MAX / 4).await;
            }
        }
    }

    /// How long lease and life still last.
    fn left(&self) -> Duration {
        let ends = self.lease_ends.min(self.life_ends);
        ends.saturating_duration_since(Instant::now())
    }

    /// The pause before the next attempt.
    fn pause(&self) -> Duration {
        (self.left() / 4).clamp(RETRY_MIN, RETRY_MAX)
    }
}

const LEASE: &str = "lease-expires-at";
const LIFE: &str = "key-expires-at";

fn time(answer: &Answer, name: &str) -> Option<SystemTime> {
    answer.header(name).and_then(parse_time)
}

fn parse_time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}
