//! What hot requests are answered.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::error::Error;
use crate::http::meter::{self, Tally};
use crate::http::route::Route;
use crate::http::wire::{self, Fields, Refusal};
use crate::key::KeyId;
use crate::store::{Outcome, Reply, Store};

// Each piece is put with one copy, so the constant ones are as long as can be.
const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";
const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";

/// Answers that are yet to be sent.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) output: Vec<u8>,
    body: Vec<u8>,
    /// The second that `end` shows.
    second: i64,
    /// What comes behind the length of the body.
    end: String,
    /// Answers that are not yet counted, by route and status: a few of them.
    counts: Vec<(Route, u16, u64)>,
}

impl Answers {
    /// Writes the answer to a request for this route and key.
    pub(super) fn add<S: Store>(
        &mut self,
        store: &S,
        route: Route,
        id: Option<&KeyId>,
        outcome: &Outcome,
    ) {
        let (status, line, fields) = match outcome {
            Ok(reply) => {
                let fields = self.write_body(store, reply);
                let is_new = matches!(reply, Reply::Created(_));
                if is_new { (201, CREATED, fields) } else { (200, FOUND, fields) }
            }
            Err(Error::NotFound) => (404, NOT_FOUND, self.write_nothing(None)),
            Err(Error::Exhausted { retry_after_ms }) => {
                (404, NOT_FOUND, self.write_nothing(*retry_after_ms))
            }
            Err(error) => return self.refuse(route, id, &Refusal::of(error)),
        };
        let location = match outcome {
            Ok(Reply::Created(created)) => created.ids.first(),
            _ => None,
        };
        self.write(store, line, &fields, location);
        self.note(route, id, status);
    }

    /// Writes a refusal.
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
        output.extend_from_slice(self.end.as_bytes());
        output.extend_from_slice(&refusal.body);
        self.note(route, id, refusal.status.as_u16());
    }

    /// Counts and logs an answer.
    fn note(&mut self, route: Route, id: Option<&KeyId>, status: u16) {
        let is_same = |known: &&mut (Route, u16, u64)| known.0 == route && known.1 == status;
        match self.counts.iter_mut().find(is_same) {
            Some((.., count)) => *count += 1,
            None => self.counts.push((route, status, 1)),
        }
        meter::log(route, id, status, None);
    }

    /// Adds what was answered since the last time to `tally`, each after `elapsed`. O(1).
    pub(super) fn count(&mut self, tally: &Tally, elapsed: Duration) {
        for (route, status, count) in self.counts.drain(..) {
            tally.add(route, status, count, elapsed);
        }
    }

    /// Writes the body of an answer; answers what the head says beside it.
    fn write_body<S: Store>(&mut self, store: &S, reply: &Reply) -> Fields {
        match reply {
            Reply::Leased(lease) => {
                wire::key_id(&mut self.body, &lease.id);
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
                Fields::of_life(created.life_ends)
            }
        }
    }

    /// The same where there is no key.
    fn write_nothing(&mut self, retry_after_ms: Option<u64>) -> Fields {
        wire::empty(&mut self.body);
        Fields::of_exhausted(retry_after_ms)
    }

    /// Writes the answer whose body is there, with the address of a key that was created.
    fn write<S: Store>(
        &mut self,
        store: &S,
        status: &[u8],
        fields: &Fields,
        location: Option<&KeyId>,
    ) {
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
        if let Some(id) = location {
            output.extend_from_slice(b"location: /keys/");
            output.extend_from_slice(id.encode(&mut [0; KeyId::TEXT_LEN]).as_bytes());
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(b"content-length: ");
        output.extend_from_slice(itoa::Buffer::new().format(self.body.len()).as_bytes());
        output.extend_from_slice(self.end.as_bytes());
        output.extend_from_slice(&self.body);
        self.body.clear();
    }

    fn set_date(&mut self) {
        // A clock that is a few milliseconds behind, and needs no look at the hardware.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.second = second;
            self.end = format!("\r\ndate: {}\r\n\r\n", httpdate::fmt_http_date(SystemTime::now()));
        }
    }
}
