//! What hot requests are answered.

use std::mem::take;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::parse::Hot;
use crate::error::Error;
use crate::http::meter::{self, Tally};
use crate::http::wire::{self, Fields};
use crate::key::{Fence, KeyId, Lease};
use crate::store::{Leasing, Release, Store};

// Each piece is put with one copy, so the constant ones are as long as can be.
const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    content-type: application/json\r\ncache-control: no-store\r\n";

/// What hot requests are answered with.
const STATUSES: [u16; 2] = [404, 200];

/// Answers that are yet to be sent.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) output: Vec<u8>,
    body: Vec<u8>,
    ids: Vec<KeyId>,
    /// Leases for the requests that come next.
    leases: Vec<Lease>,
    /// How many requests are still to come of those that were leased for together.
    run: usize,
    /// The second that `end` shows.
    second: i64,
    /// What comes behind the length of the body.
    end: String,
    /// Answers that are not yet counted, by status and route.
    counts: [[u64; Hot::ROUTES.len()]; STATUSES.len()],
}

impl Answers {
    /// Has what several requests need be fetched.
    pub(super) fn prefetch<S: Store>(&mut self, store: &S, requests: &[(usize, Hot)]) {
        self.run = 0;
        if requests.len() < 2 {
            return;
        }
        self.ids.extend(requests.iter().filter_map(|(_, request)| request.id()));
        store.prefetch(&self.ids);
        self.ids.clear();
    }

    /// Does what the first of `requests` asks for and writes the answer, if the store has it at
    /// once; else nothing has happened.
    pub(super) fn add_at_once<S: Store>(&mut self, store: &S, requests: &[(usize, Hot)]) -> bool {
        let (_, request) = requests[0];
        if let Hot::Lease = request {
            if self.run == 0 {
                let run = requests.iter().take_while(|(_, next)| matches!(next, Hot::Lease));
                self.run = run.count();
                // Those that follow one another are leased together, which is faster.
                if self.run > 1 {
                    store.lease_at_once(self.run, &mut self.leases);
                }
            }
            self.run -= 1;
            if let Some(lease) = self.leases.pop() {
                let fields = self.leased(&lease);
                self.write(store, FOUND, &fields);
                self.note(request, true);
                return true;
            }
        }
        let mut answered = pin!(self.add(store, request));
        answered.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Does what a request asks for, and writes the answer.
    pub(super) async fn add<S: Store>(&mut self, store: &S, request: Hot) {
        // Left over from one that was not answered at once.
        self.body.clear();
        let acted = self.act(store, request).await;
        let is_found = acted.is_ok();
        let (status, fields) = match acted {
            Ok(fields) => (FOUND, fields),
            Err(error) => {
                let is_exhausted = error == Error::Exhausted;
                debug_assert!(is_exhausted || error == Error::NotFound, "not hot: {error}");
                let fields = if is_exhausted {
                    Fields::of_exhausted(store).await
                } else {
                    Fields::default()
                };
                wire::empty(&mut self.body);
                (NOT_FOUND, fields)
            }
        };
        self.write(store, status, &fields);
        self.note(request, is_found);
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
    }

    /// Does what a request asks for, and writes the body of the answer.
    async fn act<S: Store>(&mut self, store: &S, request: Hot) -> Result<Fields, Error> {
        match request {
            Hot::Lease => store.lease(Leasing::default()).await.map(|lease| self.leased(&lease)),
            Hot::Show(id) => store.get(&id).await.map(|info| {
                wire::info(&mut self.body, store, &info);
                Fields::of_key(&info)
            }),
            Hot::Release(id) => store.release(&id, Release::default()).await.map(|()| self.done()),
            Hot::Delete(id) => store.delete(&id, Fence::Open).await.map(|()| self.done()),
            Hot::KeepAlive(id) => store.keep_alive(&id).await.map(|ends| {
                wire::empty(&mut self.body);
                Fields::of_life(ends)
            }),
        }
    }

    fn leased(&mut self, lease: &Lease) -> Fields {
        wire::key_id(&mut self.body, &lease.id);
        Fields::of_lease(lease)
    }

    fn done(&mut self) -> Fields {
        wire::empty(&mut self.body);
        Fields::default()
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
