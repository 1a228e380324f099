//! The answers to hot requests, byte by byte.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use super::counts::Counts;
use crate::error::Error;
use crate::http::audit::{AuditLog, Entry, Sent};
use crate::http::meter;
use crate::http::route::Route;
use crate::http::wire::{self, Fields, Refusal};
use crate::key::KeyId;
use crate::pool::PoolId;
use crate::store::{Outcome, Reply, Store};

// Each piece is one copy, so the constant ones are as long as possible.
const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";
const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";

/// How much memory is kept for the next answers, in bytes.
const KEPT_BYTES: usize = 512 * 1024;
/// What tells a client that its connection is closed after this answer.
const CLOSE: &[u8] = b"\r\nconnection: close";

/// Answers that were written and not yet sent, and counts of answers.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) output: Vec<u8>,
    /// The next answers close their connections.
    pub(super) closes: bool,
    body: Vec<u8>,
    /// The second whose date is in `end`.
    second: i64,
    /// What follows the length of the body: the date, and the end of the head.
    end: String,
    /// Of the answers that were written.
    pub(super) counts: Counts,
    audit: Option<AuditLog>,
    /// The entry in the audit log of the request that is answered next, if it has one.
    pub(super) entry: Option<Box<Entry>>,
}

impl Answers {
    pub(super) fn new(audit: Option<AuditLog>) -> Self {
        Self { audit, ..Self::default() }
    }

    /// Whether there is an audit log.
    pub(super) fn is_audited(&self) -> bool {
        self.audit.is_some()
    }

    /// Writes the answer to a request for this route and key, and notes it for the tally.
    pub(super) fn add<S: Store>(
        &mut self,
        store: &S,
        route: Route,
        pool: PoolId,
        id: Option<&KeyId>,
        outcome: &Outcome,
    ) {
        if let Some(entry) = &mut self.entry {
            entry.set_outcome(outcome);
        }
        let (status, line, fields) = match outcome {
            Ok(reply) => {
                let fields = self.write_body(store, route, pool, reply);
                let is_new = matches!(reply, Reply::Created(_)) || route.is_lease_once();
                if is_new { (201, CREATED, fields) } else { (200, FOUND, fields) }
            }
            Err(Error::NotFound) => (404, NOT_FOUND, self.write_nothing(None)),
            Err(Error::Exhausted { retry_after_ms }) => {
                self.counts.note_without_key(pool);
                (404, NOT_FOUND, self.write_nothing(*retry_after_ms))
            }
            Err(error) => return self.refuse(route, id, &Refusal::of(error)),
        };
        self.write(store, line, &fields);
        self.note(route, id, status);
    }

    /// Writes a refusal, and notes it for the tally.
    pub(super) fn refuse(&mut self, route: Route, id: Option<&KeyId>, refusal: &Refusal) {
        self.set_date();
        let output = &mut self.output;
        let reason = refusal.status.canonical_reason().unwrap_or_default();
        output.extend_from_slice(
            format!("HTTP/1.1 {} {reason}\r\n", refusal.status.as_u16()).as_bytes(),
        );
        for (name, value) in &refusal.fields {
            output.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        output.extend_from_slice(format!("content-length: {}", refusal.body.len()).as_bytes());
        write_request_id(output, self.entry.as_deref());
        if self.closes {
            output.extend_from_slice(CLOSE);
        }
        output.extend_from_slice(self.end.as_bytes());
        output.extend_from_slice(&refusal.body);
        self.note(route, id, refusal.status.as_u16());
    }

    /// Notes an answer for the tally, and logs it. Its entry becomes a line of the audit log.
    fn note(&mut self, route: Route, id: Option<&KeyId>, status: u16) {
        self.counts.note(route, status);
        meter::log(route, id, status, None);
        if let Some((audit, entry)) = self.audit.as_ref().zip(self.entry.take()) {
            audit.write(&entry, status);
        }
    }

    /// Forgets the answers that were sent. What large ones have taken is given back. O(1).
    pub(super) fn clear_output(&mut self) {
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
    }

    /// Writes the body of an answer, and returns the fields of its head.
    fn write_body<S: Store>(
        &mut self,
        store: &S,
        route: Route,
        pool: PoolId,
        reply: &Reply,
    ) -> Fields {
        match reply {
            Reply::Leased(lease) | Reply::LeasedLate(lease) => {
                wire::leased(&mut self.body, lease);
                if route.is_lease_once() {
                    return Fields::of_lease_once(lease);
                }
                Fields::of_lease(lease)
            }
            Reply::Shown(info) => {
                wire::info(&mut self.body, store, info);
                Fields::of_key(info)
            }
            Reply::KeptAlive(life_ends) => {
                wire::empty(&mut self.body);
                Fields::of_life(*life_ends)
            }
            Reply::Released | Reply::Deleted => {
                wire::empty(&mut self.body);
                Fields::default()
            }
            Reply::Renewed(lease) => {
                wire::empty(&mut self.body);
                Fields::of_lease(lease)
            }
            Reply::Created(created) => {
                wire::key_id(&mut self.body, &created.ids[0]);
                Fields::of_creation(pool, created.ids[0], created.life_ends)
            }
        }
    }

    /// Writes the body of an answer without a key, and returns the fields of its head.
    fn write_nothing(&mut self, retry_after_ms: Option<u64>) -> Fields {
        wire::empty(&mut self.body);
        Fields::of_exhausted(retry_after_ms)
    }

    /// Writes an answer with the body that was written before.
    fn write<S: Store>(&mut self, store: &S, status: &[u8], fields: &Fields) {
        if self.output.is_empty() {
            self.set_date();
        }
        let output = &mut self.output;
        output.extend_from_slice(status);
        fields.each(store, |name, value| {
            output.extend_from_slice(name.as_bytes());
            output.extend_from_slice(b": ");
            output.extend_from_slice(value);
            output.extend_from_slice(b"\r\n");
        });
        output.extend_from_slice(b"content-length: ");
        output.extend_from_slice(itoa::Buffer::new().format(self.body.len()).as_bytes());
        write_request_id(output, self.entry.as_deref());
        if self.closes {
            output.extend_from_slice(CLOSE);
        }
        output.extend_from_slice(self.end.as_bytes());
        output.extend_from_slice(&self.body);
        self.body.clear();
    }

    fn set_date(&mut self) {
        // The coarse clock is a few milliseconds behind, but cheaper to read.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.second = second;
            self.end = format!("\r\ndate: {}\r\n\r\n", httpdate::fmt_http_date(SystemTime::now()));
        }
    }
}

/// Writes what the client or the server calls a request, if that is in the audit log.
fn write_request_id(output: &mut Vec<u8>, entry: Option<&Entry>) {
    let Some(entry) = entry else { return };
    for part in ["\r\n", Sent::REQUEST_ID, ": ", entry.request_id()] {
        output.extend_from_slice(part.as_bytes());
    }
}
