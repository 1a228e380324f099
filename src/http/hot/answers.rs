//! What hot requests are answered.

use std::mem::take;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::parse::Hot;
use crate::error::Error;
use crate::http::meter::{self, Tally};
use crate::http::route::Route;
use crate::http::wire::{self, Fields, Refusal};
use crate::store::{Outcome, Reply, Store};

// Each piece is put with one copy, so the constant ones are as long as can be.
const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";

/// What nearly all hot requests are answered with.
const STATUSES: [u16; 2] = [404, 200];

/// Answers that are yet to be sent.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) output: Vec<u8>,
    body: Vec<u8>,
    /// The second that `end` shows.
    second: i64,
    /// What comes behind the length of the body.
    end: String,
    /// Answers that are not yet counted, by status and route.
    counts: [[u64; Hot::ROUTES.len()]; STATUSES.len()],
    /// Those with another status.
    rare: Vec<(Route, u16)>,
}

impl Answers {
    /// Writes the answer to a request.
    pub(super) fn add<S: Store>(&mut self, store: &S, request: Hot, outcome: &Outcome) {
        match outcome {
            Ok(reply) => {
                let fields = self.write_body(store, reply);
                self.write(store, FOUND, &fields);
                self.note(request, true);
            }
            Err(Error::NotFound) => {
                wire::empty(&mut self.body);
                self.write(store, NOT_FOUND, &Fields::default());
                self.note(request, false);
            }
            Err(Error::Exhausted { retry_after_ms }) => {
                wire::empty(&mut self.body);
                self.write(store, NOT_FOUND, &Fields::of_exhausted(*retry_after_ms));
                self.note(request, false);
            }
            Err(error) => self.refuse(request, &Refusal::of(error)),
        }
    }

    /// Writes a refusal.
    fn refuse(&mut self, request: Hot, refusal: &Refusal) {
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
        let route = Hot::ROUTES[request.place()];
        self.rare.push((route, refusal.status.as_u16()));
        meter::log(route, request.id(), refusal.status.as_u16(), None);
    }

    /// Counts an answer.
    fn note(&mut self, request: Hot, is_found: bool) {
        let (found, place) = (usize::from(is_found), request.place());
        self.counts[found][place] += 1;
        meter::log(Hot::ROUTES[place], request.id(), STATUSES[found], None);
    }

    /// Adds what was answered since the last time to `tally`, each after `elapsed`. O(1).
    pub(super) fn count(&mut self, tally: &Tally, elapsed: Duration) {
        for (counts, status) in self.counts.iter_mut().zip(STATUSES) {
            for (count, route) in counts.iter_mut().zip(Hot::ROUTES) {
                if *count > 0 {
                    tally.add(route, status, take(count), elapsed);
                }
            }
        }
        for (route, status) in self.rare.drain(..) {
            tally.add(route, status, 1, elapsed);
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
            Reply::Created(_) | Reply::Renewed(_) => unreachable!("no hot request asks for it"),
        }
    }

    /// Writes the answer whose body is there.
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
