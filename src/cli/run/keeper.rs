//! Holds a lease: renews it and keeps its key alive.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use hyper::Method;
use serde_json::Value;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::clock::{left, now, since, sleep_until};
use super::grace::Grace;
use crate::cli::choice::Choice;
use crate::cli::client::{Answer, ApiRequest, Client};
use crate::cli::failure::Failure;
use crate::cli::report::report_at_once;
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
pub(super) const KEY_GONE: &str =
    "the key has expired or was deleted, or the server has lost its keys in a restart.";

/// How the key is leased. Times are in milliseconds.
#[derive(clap::Args, Clone)]
pub(in crate::cli) struct LeaseOptions {
    #[command(flatten)]
    choice: Choice,
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
    /// How long the lease will last, if the user says so.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.lease.map(|ms| Duration::from_millis(ms.into()))
    }

    /// How long leasing a key may take.
    pub(super) fn wait_max(&self) -> Duration {
        Duration::from_millis(self.wait.unwrap_or(0).into()) + PATIENCE
    }
}

/// Holds one lease. Times are those since boot.
pub(super) struct Keeper {
    client: Client,
    options: LeaseOptions,
    id: String,
    /// What the key stands for, if it has a value. It is a secret.
    value: Option<Zeroizing<String>>,
    etag: String,
    /// How long the lease lasts from a renewal on.
    length: Duration,
    /// When the lease or the life of the key ends, unless it is renewed before.
    ends: Cell<Duration>,
    grace: Grace,
}

/// Why a key cannot be used.
pub(super) enum Unfit {
    /// Its lease is over, or could not be renewed in time.
    Lost(Failure),
    /// Its lease is too short for what the user wants. The message says so.
    TooShort(String),
}

impl Keeper {
    /// Leases a key. The time since `began` counts as time waited. The lease has a short deadline until
    /// [`Keeper::begin`] knows better.
    ///
    /// # Errors
    ///
    /// The message for the user, if no key could be leased.
    pub(super) async fn lease(
        client: Client,
        options: LeaseOptions,
        began: Duration,
    ) -> Result<Self, String> {
        let waited = u32::try_from(since(began).as_millis()).unwrap_or(u32::MAX);
        let wait = options.wait.map(|ms| ms.saturating_sub(waited).max(1));
        let request = ApiRequest::new(Method::GET, "keys").ms("lease", options.lease).wait(wait);
        let message = |failure: Failure| failure.message(&options.choice.no_free_key());
        let mut lease = client.send(options.choice.of(request)).await.map_err(message)?;
        let value = match lease.body.get_mut("value").map(Value::take) {
            Some(Value::String(value)) => Some(Zeroizing::new(value)),
            _ => None,
        };
        let (id, etag) = (lease.text("keyId"), lease.header("etag"));
        // The id becomes part of paths, so it is checked.
        let id = id.filter(|id| id.parse::<KeyId>().is_ok());
        let (Some(id), Some(etag)) = (id.map(str::to_owned), etag.map(str::to_owned)) else {
            return Err("the answer names no key: check that --server is the address of a \
                        token-orchestrator, such as http://localhost:8080."
                .to_owned());
        };
        let (length, ends, grace) = (Duration::ZERO, Cell::new(now() + PATIENCE), Grace::NONE);
        Ok(Self { client, options, id, value, etag, length, ends, grace })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The value of the key, if it has one.
    pub(super) fn value(&self) -> Option<&str> {
        self.value.as_deref().map(String::as_str)
    }

    /// When the command gets SIGTERM, unless the lease is renewed before. O(1).
    pub(super) fn term_at(&self) -> Duration {
        self.grace.term_at(self.ends.get())
    }

    /// When the command gets SIGKILL, unless the lease is renewed before. O(1).
    pub(super) fn kill_at(&self) -> Duration {
        self.grace.kill_at(self.ends.get())
    }

    /// How long the command may take to end after SIGTERM. O(1).
    pub(super) fn kill_after(&self) -> Duration {
        self.grace.kill_after
    }

    /// Asks the server how long the lease lasts, renews it, and decides when the command would have to end;
    /// `kill_after` is how long the user wants it to have for that.
    ///
    /// # Errors
    ///
    /// If the key or its lease is gone, the server does not answer in time, or the lease is too short.
    pub(super) async fn begin(&mut self, kill_after: Option<Duration>) -> Result<(), Unfit> {
        loop {
            let failure = match self.measure(kill_after).await {
                Err(Unfit::Lost(failure)) => failure,
                result => return result,
            };
            if failure.is_final() || self.left().is_zero() {
                return Err(Unfit::Lost(failure));
            }
            sleep(self.pause()).await;
        }
    }

    async fn measure(&mut self, kill_after: Option<Duration>) -> Result<(), Unfit> {
        let show = ApiRequest::new(Method::GET, format!("keys/{}", self.id)).within(TRY_MAX);
        let info = self.client.send(show).await.map_err(Unfit::Lost)?;
        let (began, ends) = (info.text("blockedAt").and_then(parse_time), time(&info, LEASE));
        let (Some(began), Some(ends), true) =
            (began, ends, info.header("etag") == Some(&self.etag))
        else {
            return Err(Unfit::Lost(Failure::Lost(
                "the lease was over at once: lease for longer, such as with --lease 30s."
                    .to_owned(),
            )));
        };
        // Both times are the server's, so its clock need not agree with the one here.
        self.length = ends.duration_since(began).unwrap_or_default();
        let sent = self.renew().await.map_err(Unfit::Lost)?;
        // The key's life may be shorter than the lease.
        let lasts = self.ends.get().saturating_sub(sent);
        self.grace = Grace::new(kill_after, lasts).map_err(Unfit::TooShort)?;
        if self.left().is_zero() {
            return Err(Unfit::Lost(Failure::NoAnswer(
                "the lease ended before the server had answered: lease for longer, such as with \
                 --lease 30s"
                    .to_owned(),
            )));
        }
        Ok(())
    }

    /// Renews the lease and keeps the key alive until the lease is lost, or so late that the command must
    /// end. Returns why.
    pub(super) async fn keep(&self) -> String {
        let mut failure = None;
        let mut next = self.next_renewal();
        loop {
            let renewal = async {
                sleep_until(next).await;
                self.renew().await
            };
            let renewed = tokio::select! {
                biased;
                () = sleep_until(self.term_at()) => return too_late(failure.as_ref()),
                renewed = renewal => renewed,
            };
            failure = renewed.err();
            next = match &failure {
                None => self.next_renewal(),
                Some(failure) if failure.is_final() => return failure.message(KEY_GONE),
                Some(_) => now() + self.pause(),
            };
        }
    }

    fn next_renewal(&self) -> Duration {
        now() + (self.left() / 3).min(RENEWAL_MAX)
    }

    /// Keeps the key alive and renews the lease. Returns when the renewal was sent.
    ///
    /// A renewed lease begins when the server has read the request, which is after the request was sent.
    /// So the deadline computed here is early by what the network took, and never late.
    async fn renew(&self) -> Result<Duration, Failure> {
        let patience = (self.left() / 2).clamp(RETRY_MIN, TRY_MAX);
        let life = ApiRequest::new(Method::PUT, format!("keepalive/{}", self.id)).within(patience);
        let life = self.client.send(life).await?;
        let sent = now();
        let lease =
            ApiRequest::new(Method::PUT, format!("keys/{}/lease", self.id)).within(patience);
        // Whatever the server's configuration is by now, the lease lasts as long as before.
        let length = u32::try_from(self.length.as_millis()).ok();
        let lease = lease.ms("lease", length).if_match(Some(&self.etag));
        let lease = self.client.send(lease).await?;
        let unknown = || Failure::NoAnswer("the answer names no deadline".to_owned());
        let ends = time(&lease, LEASE).ok_or_else(unknown)?;
        // The server's time at which the renewed lease began.
        let began = ends - self.length;
        // A key that lives until it is deleted has no end.
        let life = match life.header(LIFE) {
            Some(text) => {
                let ends = parse_time(text).ok_or_else(unknown)?;
                ends.duration_since(began).unwrap_or_default()
            }
            None => Duration::MAX,
        };
        self.ends.set(sent + self.length.min(life));
        Ok(sent)
    }

    /// Releases the key, unless its lease is over. If the server does not answer, the lease times out.
    pub(super) async fn release(&self) {
        let (mut cooldown, until) = (self.options.cooldown, self.ends.get().min(now() + PATIENCE));
        if left(until).is_zero() {
            return;
        }
        loop {
            let patience = left(until).max(RETRY_MIN);
            let request =
                ApiRequest::new(Method::PUT, format!("keys/{}", self.id)).within(patience);
            let request = request.ms("cooldown", cooldown).if_match(Some(&self.etag));
            let failure = match self.client.send(request).await {
                Err(failure) if !failure.is_final() => failure,
                _ => return,
            };
            if matches!(failure, Failure::Refused { status: 400, .. }) && cooldown.is_some() {
                let why = failure.message(KEY_GONE);
                report_at_once(&format!("error: the key does not cool down: {why}"));
                cooldown = None;
            } else if left(until).is_zero() {
                let why = failure.message(KEY_GONE);
                report_at_once(&format!(
                    "error: the key was not released: {why} It is free when its lease times out."
                ));
                return;
            } else {
                sleep(RETRY_MAX / 4).await;
            }
        }
    }

    /// How long there is to renew the lease.
    fn left(&self) -> Duration {
        left(self.term_at())
    }

    /// The pause before the next attempt.
    fn pause(&self) -> Duration {
        (self.left() / 4).clamp(RETRY_MIN, RETRY_MAX)
    }
}

/// Why a lease was not renewed in time; `failure` is that of the latest attempt.
fn too_late(failure: Option<&Failure>) -> String {
    match failure {
        Some(failure) => format!("it could not be renewed in time: {}", failure.message(KEY_GONE)),
        None => {
            "this program or the machine was stopped until it was too late to renew it.".to_owned()
        }
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
