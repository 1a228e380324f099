//! Keeps a lease and its key for as long as they are needed.

use std::time::{Duration, SystemTime};

use reqwest::Method;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cli::client::{Answer, Ask, Client, Failure, parse_ms};

/// The longest time until a request that got no answer is tried again.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The shortest.
const RETRY_MIN: Duration = Duration::from_millis(10);
/// Why a lease is lost.
const DEAD: &str = "the key has died or was deleted.";
const UNREACHABLE: &str = "the server has not answered in time.";

/// How a key is to be had, in milliseconds.
#[derive(clap::Args)]
pub(in crate::cli) struct Terms {
    /// How long each lease lasts, such as 30s: so long after this program was killed the key is free
    #[arg(long, value_name = "DURATION", value_parser = parse_ms)]
    lease: Option<u32>,
    /// How long to wait for a key if none is free
    #[arg(long, value_name = "DURATION", value_parser = parse_ms)]
    wait: Option<u32>,
    /// How long the key rests after CMD before it is served again
    #[arg(long, value_name = "DURATION", value_parser = parse_ms)]
    cooldown: Option<u32>,
}

/// The holder of a lease.
pub(super) struct Keeper {
    client: Client,
    terms: Terms,
    id: String,
    etag: String,
    /// A moment of this machine, and what the server's clock showed then or a little later.
    moment: (Instant, SystemTime),
    lease_ends: Instant,
    life_ends: Instant,
    /// When to renew next.
    next: Instant,
}

impl Keeper {
    /// Leases a key.
    ///
    /// # Errors
    ///
    /// What to tell if there is none.
    pub(super) async fn lease(client: Client, terms: Terms) -> Result<Self, String> {
        let tell = |failure: Failure| failure.message("no key is free.");
        let ask = Ask::new(Method::GET, "keys").ms("lease", terms.lease).wait(terms.wait);
        let lease = client.send(ask).await.map_err(tell)?;
        let (id, etag) = (lease.text("keyId"), lease.header("etag"));
        let (Some(id), Some(etag)) = (id.map(str::to_owned), etag.map(str::to_owned)) else {
            return Err("this is no answer of a token-orchestrator.".to_owned());
        };
        let now = Instant::now();
        let moment = (now, SystemTime::UNIX_EPOCH);
        let mut keeper =
            Self { client, terms, id, etag, moment, lease_ends: now, life_ends: now, next: now };
        match keeper.compare_clocks().await {
            Ok(()) => Ok(keeper),
            Err(why) => {
                keeper.release().await;
                Err(why)
            }
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Finds out what the server's clock shows. A lease that is renewed begins at a moment that it
    /// tells to the millisecond, which is not before the request was sent. So deadlines are taken
    /// for a little earlier than they are, never for later.
    async fn compare_clocks(&mut self) -> Result<(), String> {
        let tell = |failure: Failure| failure.message(DEAD);
        let sent = Instant::now();
        self.client.send(self.renewal()).await.map_err(tell)?;
        let show = Ask::new(Method::GET, format!("keys/{}", self.id));
        let info = self.client.send(show).await.map_err(tell)?;
        let began = info.text("blockedAt").and_then(parse_time);
        self.moment = (sent, began.ok_or("somebody else released the key.")?);
        self.note(&info);
        Ok(())
    }

    /// Keeps the lease and the key, until it is lost: then answers why.
    pub(super) async fn keep(&mut self) -> String {
        loop {
            sleep_until(self.next).await;
            match timeout_at(self.ends(), self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) if failure.is_final() => return failure.message(DEAD),
                _ if Instant::now() >= self.ends() => return UNREACHABLE.to_owned(),
                _ => self.next = Instant::now() + (self.left() / 4).clamp(RETRY_MIN, RETRY_MAX),
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Failure> {
        let lease = self.client.send(self.renewal()).await?;
        self.note(&lease);
        let life =
            self.client.send(Ask::new(Method::PUT, format!("keepalive/{}", self.id))).await?;
        self.note(&life);
        Ok(())
    }

    fn renewal(&self) -> Ask<'_> {
        let ask = Ask::new(Method::PUT, format!("keys/{}/lease", self.id));
        ask.ms("lease", self.terms.lease).if_match(Some(&self.etag))
    }

    /// Gives the key back. If nobody answers, the server takes it when the lease ends.
    pub(super) async fn release(self) {
        let ask = Ask::new(Method::PUT, format!("keys/{}", self.id));
        let ask = ask.ms("cooldown", self.terms.cooldown).if_match(Some(&self.etag));
        if let Err(failure) = self.client.send(ask).await
            && !failure.is_final()
        {
            eprintln!("error: the key was not released: {}", failure.message(DEAD));
        }
    }

    /// Takes note of new deadlines. A third of the time that is left is let pass.
    fn note(&mut self, answer: &Answer) {
        let ends = |name| answer.header(name).and_then(parse_time).map(|at| self.here(at));
        let (lease, life) = (ends("lease-expires-at"), ends("key-expires-at"));
        self.lease_ends = lease.unwrap_or(self.lease_ends);
        self.life_ends = life.unwrap_or(self.life_ends);
        self.next = Instant::now() + self.left() / 3;
    }

    /// The moment at which the server's clock shows `at`, or a little before.
    fn here(&self, at: SystemTime) -> Instant {
        let (moment, server) = self.moment;
        moment + at.duration_since(server).unwrap_or_default()
    }

    fn ends(&self) -> Instant {
        self.lease_ends.min(self.life_ends)
    }

    fn left(&self) -> Duration {
        self.ends().saturating_duration_since(Instant::now())
    }
}

fn parse_time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}
