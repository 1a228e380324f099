//! What a client asks for next.

use std::fmt::{Display, Write};

use rand::RngExt;
use uuid::Uuid;

use super::clients::{Racer, quoted_ids};
use super::values::{LABEL, Values};
use crate::checker::record::{LOST, Operation, Turn, What, ns};
use crate::client::Answer;

/// The pool of keys of one's own.
pub(super) const POOL: &str = "own";
/// The longest cool-down.
pub(crate) const COOLDOWN_MS_MAX: u32 = 20;
/// The longest wait for a key.
const WAIT_MS_MAX: u32 = 20;
/// How many leases a client remembers at most, and how many that are over.
const HELD_MAX: usize = 64;

/// A lease that a client has or had.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) key: Uuid,
    pub(super) generation: u64,
    /// When it is over, or later.
    until_ns: u64,
    /// When its holder no longer needs it, which may be too late.
    release_ns: u64,
    /// Whether its holder renews it.
    is_renewed: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) what: What,
    pub(super) key: Uuid,
    pub(super) fence: Option<u64>,
    /// The length of a lease or of a cool-down.
    ms: u32,
    /// Whether the request names that length. Otherwise it is the server's default.
    says_ms: bool,
    wait_ms: u32,
    /// How many keys are created.
    count: usize,
    /// Whether a lease names a label, which all keys have.
    has_label: bool,
    /// Whether a lease names its holder.
    has_holder: bool,
}

impl Request {
    fn of(what: What, key: Uuid) -> Self {
        Self {
            what,
            key,
            fence: None,
            ms: 0,
            says_ms: false,
            wait_ms: 0,
            count: 0,
            has_label: false,
            has_holder: false,
        }
    }

    pub(super) fn create(count: usize) -> Self {
        Self { count, ..Self::of(What::Create, Uuid::nil()) }
    }

    pub(super) fn look(key: Uuid) -> Self {
        Self::of(What::Look, key)
    }

    pub(super) fn keep_alive(key: Uuid) -> Self {
        Self::of(What::KeepAlive, key)
    }

    pub(super) fn lease(ms: u32) -> Self {
        Self { ms, says_ms: true, ..Self::of(What::Lease, Uuid::nil()) }
    }

    pub(super) fn renew(key: Uuid, fence: u64, ms: u32) -> Self {
        Self { fence: Some(fence), ms, says_ms: true, ..Self::of(What::Renew, key) }
    }

    /// The record of the request, without an answer.
    pub(super) fn operation(&self, turn: Turn, invoked_ns: u64, ended_ns: u64) -> Operation {
        let Self { what, key, fence, ms, .. } = *self;
        let (status, generation, is_blocked) = (LOST, None, false);
        Operation {
            what,
            key,
            invoked_ns,
            ended_ns,
            fence,
            ms,
            status,
            generation,
            is_blocked,
            turn,
        }
    }

    /// The record of the request with its answer. That of a creation names no key.
    pub(super) fn answered(
        &self,
        turn: Turn,
        invoked_ns: u64,
        ended_ns: u64,
        answer: &Answer,
    ) -> Operation {
        let mut operation = self.operation(turn, invoked_ns, ended_ns);
        assert_ne!(answer.status, LOST);
        operation.status = answer.status;
        let tag = answer.header("etag");
        operation.generation = tag.map(|tag| tag.trim_matches('"').parse().expect("a generation"));
        operation.is_blocked = answer.body.starts_with(r#"{"isBlocked":true"#);
        if self.what == What::Lease && answer.status == 200 {
            operation.key = quoted_ids(&answer.body).next().expect("a key");
        }
        operation
    }

    /// Writes the request as it is sent: with values, to the pool of keys of one's own.
    pub(super) fn write(&self, values: Option<&Values>, text: &mut String) {
        let Self { key, ms, .. } = self;
        let pool = values.map_or_else(String::new, |_| format!("/pools/{POOL}"));
        let written = match self.what {
            What::Create => write!(text, "POST {pool}/keys"),
            What::Lease => write!(text, "GET {pool}/keys"),
            What::Release => write!(text, "PUT {pool}/keys/{key}"),
            What::Renew => write!(text, "PUT {pool}/keys/{key}/lease"),
            What::KeepAlive => write!(text, "PUT {pool}/keepalive/{key}"),
            What::Delete => write!(text, "DELETE {pool}/keys/{key}"),
            What::Look => write!(text, "GET {pool}/keys/{key}"),
        };
        let mut separator = '?';
        let mut parameter = |text: &mut String, name: &str, value: &dyn Display| {
            let written = write!(text, "{separator}{name}={value}");
            separator = '&';
            written
        };
        let milliseconds = |ms: u32| format!("{ms}ms");
        let written = written.and_then(|()| match self.what {
            _ if !self.says_ms => Ok(()),
            What::Release => parameter(text, "cooldown", &milliseconds(*ms)),
            _ => parameter(text, "lease", &milliseconds(*ms)),
        });
        let written = written.and_then(|()| match self.wait_ms {
            0 => Ok(()),
            wait_ms => parameter(text, "wait", &milliseconds(wait_ms)),
        });
        let own = [(self.has_label, "label", LABEL), (self.has_holder, "holder", "racer")];
        let written = own
            .into_iter()
            .filter(|(is_said, ..)| *is_said)
            .fold(written, |written, (_, name, value)| {
                written.and_then(|()| parameter(text, name, &value))
            });
        let written = written.and_then(|()| text.write_str(" HTTP/1.1\r\nHost: test\r\n"));
        let written = written.and_then(|()| match self.fence {
            Some(fence) => write!(text, "If-Match: \"{fence}\"\r\n"),
            None => Ok(()),
        });
        let written = written.and_then(|()| match self.what {
            What::Create => {
                let body = match values {
                    Some(values) => values.import(self.count),
                    None => format!(r#"{{"count":{}}}"#, self.count),
                };
                write!(text, "Content-Length: {}\r\n\r\n{body}", body.len())
            }
            _ => text.write_str("\r\n"),
        });
        written.expect("writing to a string cannot fail");
    }
}

impl Racer<'_> {
    /// The next request. If `is_hot`, it is one that the hot path answers; if its answer
    /// `is_abandoned`, it is one that leaves the rest of the history easy to check.
    pub(super) fn plan(&mut self, is_hot: bool, is_alone: bool, is_abandoned: bool) -> Request {
        self.note_past();
        let one_in = self.world.scenario.deletes_one_in;
        if self.rng.random_ratio(1, one_in) {
            return self.plan_deletion(is_hot);
        }
        if !is_abandoned && self.rng.random_ratio(10, one_in) {
            let release = Request::of(What::Release, self.any_key());
            return self.maybe_cool(release, is_hot);
        }
        match self.rng.random_range(0..100) {
            0..40 if !is_abandoned || self.world.scenario.hangs_up => {
                self.plan_lease(is_hot, is_alone)
            }
            40..70 if !(is_abandoned && is_hot) => self.plan_release(is_hot, is_abandoned),
            70..75 if !is_hot => self.plan_late(),
            75..80 if !is_hot => self.plan_renewal(is_abandoned),
            75..85 => self.plan_keep_alive(),
            85..92 => match self.any_held() {
                Some(held) => Request::look(held.key),
                None => Request::look(self.any_key()),
            },
            _ => Request::look(self.any_key()),
        }
    }

    pub(super) fn plan_lease(&mut self, is_hot: bool, is_alone: bool) -> Request {
        let lease_ttl_ms = self.world.scenario.lease_ttl_ms;
        let mut lease = Request::lease(lease_ttl_ms);
        lease.says_ms = !is_hot && self.rng.random();
        if lease.says_ms {
            lease.ms = self.rng.random_range(1..=2 * lease_ttl_ms);
        }
        if self.world.scenario.is_own {
            (lease.has_label, lease.has_holder) = self.rng.random();
        }
        if !is_hot && is_alone && self.rng.random_ratio(1, 8) {
            lease.wait_ms = self.rng.random_range(1..=WAIT_MS_MAX);
        }
        lease
    }

    /// A holder no longer needs its lease.
    fn plan_release(&mut self, is_hot: bool, is_abandoned: bool) -> Request {
        let now_ns = self.world.now_ns();
        let Some(due) = self.held.iter().position(|held| held.release_ns <= now_ns) else {
            return Request::look(self.any_key());
        };
        let held = self.held.swap_remove(due);
        let mut release = Request::of(What::Release, held.key);
        let is_fenced = !is_hot && (is_abandoned || self.rng.random_ratio(3, 4));
        release.fence = is_fenced.then_some(held.generation);
        if !is_abandoned && self.rng.random() { self.maybe_cool(release, is_hot) } else { release }
    }

    /// A holder does not know that its lease is over.
    fn plan_late(&mut self) -> Request {
        let Some(past) = self.past.pop() else { return self.plan_keep_alive() };
        let what = [What::Release, What::Release, What::Renew, What::Delete];
        let mut late = Request::of(what[self.rng.random_range(0..what.len())], past.key);
        late.fence = Some(past.generation);
        if late.what == What::Renew {
            late.ms = self.world.scenario.lease_ttl_ms;
        }
        late
    }

    fn plan_renewal(&mut self, is_abandoned: bool) -> Request {
        let held = self.held.iter().position(|held| held.is_renewed);
        let Some(held) = held.map(|place| self.held[place]) else {
            return self.plan_keep_alive();
        };
        let mut renewal = Request::of(What::Renew, held.key);
        let is_fenced = is_abandoned || self.rng.random_ratio(3, 4);
        renewal.fence = is_fenced.then_some(held.generation);
        renewal.says_ms = true;
        renewal.ms = self.rng.random_range(1..=2 * self.world.scenario.lease_ttl_ms);
        renewal
    }

    /// At any time half of the keys are not kept alive; two lives later it is the second half.
    fn plan_keep_alive(&mut self) -> Request {
        let key = self.any_key();
        let turn = self.world.now_ns() / ns(2 * self.world.scenario.key_ttl_ms);
        let is_kept = (u64::from(key.as_bytes()[0]) + turn).is_multiple_of(2);
        if is_kept { Request::keep_alive(key) } else { Request::look(key) }
    }

    fn plan_deletion(&mut self, is_hot: bool) -> Request {
        let mut deletion = Request::of(What::Delete, self.any_key());
        if !is_hot
            && self.rng.random()
            && let Some(held) = self.any_held()
        {
            (deletion.key, deletion.fence) = (held.key, Some(held.generation));
        }
        deletion
    }

    fn maybe_cool(&mut self, mut release: Request, is_hot: bool) -> Request {
        if !is_hot && self.rng.random() {
            release.says_ms = true;
            release.ms = self.rng.random_range(1..=COOLDOWN_MS_MAX);
        }
        release
    }

    /// Notes a lease, and decides what will come of it.
    pub(super) fn note_lease(&mut self, key: Uuid, generation: u64, invoked_ns: u64, ms: u32) {
        let until_ns = self.world.now_ns() + ns(ms);
        let needed_ms = if self.rng.random() { 0 } else { self.rng.random_range(0..=2 * ms) };
        let release_ns = invoked_ns + ns(needed_ms);
        let is_renewed = self.rng.random_ratio(1, 4);
        self.held.push(Held { key, generation, until_ns, release_ns, is_renewed });
    }

    pub(super) fn note_renewal(&mut self, renewal: &Operation) {
        for held in self.held.iter_mut().filter(|held| held.key == renewal.key) {
            held.until_ns = renewal.ended_ns + renewal.length_ns();
            held.is_renewed = self.rng.random();
        }
    }

    /// Moves leases whose time is over to those that are past.
    fn note_past(&mut self) {
        let now_ns = self.world.now_ns();
        let past = self.held.extract_if(.., |held| held.until_ns < now_ns);
        self.past.extend(past);
        for list in [&mut self.held, &mut self.past] {
            let excess = list.len().saturating_sub(HELD_MAX);
            list.drain(..excess);
        }
    }

    fn any_held(&mut self) -> Option<Held> {
        match self.held.len() {
            0 => None,
            held => Some(self.held[self.rng.random_range(0..held)]),
        }
    }

    /// A key that all clients know of, or one that never existed.
    fn any_key(&mut self) -> Uuid {
        let known = self.world.known_keys.lock().unwrap().random(&mut self.rng);
        known.unwrap_or_else(|| Uuid::from_u128(self.rng.random()))
    }
}
