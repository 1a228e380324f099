//! Keeps a lease and its key for as long as they are needed.

use std::time::{Duration, SystemTime};

use hyper::Method;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::client::{Answer, Ask, Client, Failure};
use crate::cli::tell::tell;
use crate::config::parse_max_ms;
use crate::key::KeyId;

/// The longest that one try to reach the server may take, and the pause until the next.
const TRY_MAX: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(10);
/// The longest time between renewals: that somebody else released the key is seen no later.
const RENEWAL_MAX: Duration = Duration::from_secs(20);
/// How long the beginning and the end may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Why a lease is lost.
pub(super) const DEAD: &str = "the key has died or was deleted.";

/// How a key is to be had, in milliseconds.
#[derive(clap::Args, Clone, Copy)]
pub(in crate::cli) struct Terms {
    /// How long each lease lasts, such as 30s: if this program is killed, the key is free after that
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    lease: Option<u32>,
    /// How long to wait for a key if none is free
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    wait: Option<u32>,
    /// How long the key rests after CMD before it is served again
    #[arg(long, value_name = "DURATION", value_parser = parse_max_ms)]
    cooldown: Option<u32>,
}

impl Terms {
    /// How long it may take to find a key.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_millis(self.wait.unwrap_or(0).into()) + PATIENCE
    }
}

/// The holder of a lease.
pub(super) struct Keeper {
    client: Client,
    terms: Terms,
    id: String,
    etag: String,
    /// How long a lease lasts from its renewal on.
    length: Duration,
    lease_ends: Instant,
    life_ends: Instant,
    /// When to renew next.
    next: Instant,
}

impl Keeper {
    /// Leases a key; what was waited since `began` is part of the time to wait.
    ///
    /// # Errors
    ///
    /// What to tell if there is none.
    pub(super) async fn lease(
        client: Client,
        terms: Terms,
        began: Instant,
    ) -> Result<Self, String> {
        let waited = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let wait = terms.wait.map(|ms| ms.saturating_sub(waited).max(1));
        let ask = Ask::new(Method::GET, "keys").ms("lease", terms.lease).wait(wait);
        let tell = |failure: Failure| failure.message("no key is free.");
        let lease = client.send(ask).await.map_err(tell)?;
        let (id, etag) = (lease.text("keyId"), lease.header("etag"));
        // It becomes part of paths, so it must be what it says.
        let id = id.filter(|id| id.parse::<KeyId>().is_ok());
        let (Some(id), Some(etag)) = (id.map(str::to_owned), etag.map(str::to_owned)) else {
            return Err("this is no answer of a token-orchestrator.".to_owned());
        };
        let (now, length) = (Instant::now(), Duration::ZERO);
        let (lease_ends, life_ends, next) = (now + PATIENCE, now + PATIENCE, now);
        Ok(Self { client, terms, id, etag, length, lease_ends, life_ends, next })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Finds out how long the lease lasts, and renews it.
    ///
    /// # Errors
    ///
    /// Why the key is not to be had.
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
        let show = Ask::new(Method::GET, format!("keys/{}", self.id)).within(TRY_MAX);
        let info = self.client.send(show).await?;
        let (began, ends) = (info.text("blockedAt").and_then(parse_time), time(&info, LEASE));
        let (Some(began), Some(ends), true) =
            (began, ends, info.header("etag") == Some(&self.etag))
        else {
            return Err(Failure::Lost("the lease is over already.".to_owned()));
        };
        // Both are the server's, so that its clock need not agree with any other.
        self.length = ends.duration_since(began).unwrap_or_default();
        self.renew().await?;
        if self.left().is_zero() {
            return Err(Failure::NoAnswer(
                "the server is too slow for so short a lease".to_owned(),
            ));
        }
        Ok(())
    }

    /// Keeps the lease and the key, until it is lost: then answers why.
    pub(super) async fn keep(&mut self) -> String {
        loop {
            sleep_until(self.next).await;
            match self.renew().await {
                Ok(()) => {}
                Err(failure) if failure.is_final() || self.left().is_zero() => {
                    return failure.message(DEAD);
                }
                Err(_) => self.next = Instant::now() + self.pause(),
            }
        }
    }

    /// Starts life and lease anew.
    ///
    /// A lease that is renewed begins when the server has read the request, which is not before it
    /// was sent. So deadlines are taken for a little earlier than they are, and never for later.
    async fn renew(&mut self) -> Result<(), Failure> {
        let patience = (self.left() / 2).clamp(RETRY_MIN, TRY_MAX);
        let life = Ask::new(Method::PUT, format!("keepalive/{}", self.id)).within(patience);
        let life = self.client.send(life).await?;
        let sent = Instant::now();
        let lease = Ask::new(Method::PUT, format!("keys/{}/lease", self.id)).within(patience);
        let lease = lease.ms("lease", self.terms.lease).if_match(Some(&self.etag));
        let lease = self.client.send(lease).await?;
        let (Some(life_ends), Some(ends)) = (time(&life, LIFE), time(&lease, LEASE)) else {
            return Err(Failure::NoAnswer("the answer tells no deadline".to_owned()));
        };
        // What the server's clock showed when the lease began anew.
        let began = ends - self.length;
        self.lease_ends = sent + self.length;
        self.life_ends = sent + life_ends.duration_since(began).unwrap_or_default();
        self.next = Instant::now() + (self.left() / 3).min(RENEWAL_MAX);
        Ok(())
    }

    /// Gives the key back. If nobody answers, the server takes it when the lease ends.
    pub(super) async fn release(&self) {
        let (mut cooldown, until) = (self.terms.cooldown, Instant::now() + PATIENCE);
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(RETRY_MIN);
            let ask = Ask::new(Method::PUT, format!("keys/{}", self.id)).within(left);
            let ask = ask.ms("cooldown", cooldown).if_match(Some(&self.etag));
            let failure = match self.client.send(ask).await {
                Err(failure) if !failure.is_final() => failure,
                _ => return,
            };
            if matches!(failure, Failure::Refused { status: 400, .. }) && cooldown.is_some() {
                tell(&format!("error: the key does not rest: {}", failure.message(DEAD)));
                cooldown = None;
            } else if Instant::now() >= until {
                tell(&format!("error: the key was not released: {}", failure.message(DEAD)));
                return;
            } else {
                sleep(RETRY_MAX / 4).await;
            }
        }
    }

    fn left(&self) -> Duration {
        let ends = self.lease_ends.min(self.life_ends);
        ends.saturating_duration_since(Instant::now())
    }

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
