//! The hot path: the commonest requests, answered ahead of hyper and the router.
//!
//! Each connection begins here. Its input is read into one buffer, and for as long as it holds
//! nothing but hot requests (no body, nothing unusual in the head) the answers to all of them are
//! written into another and sent in one go. What pipelined requests need is fetched beforehand.
//! With the first request that is not hot, the connection and what was read of it go to hyper for good. Both paths give the same bytes for the same
//! request: `tests/it/paths.rs` compares them.
//!
//! How it compares with bare hyper and with a loop that parses nothing: `loadtest/results/`.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use httparse::{Header, Request, Status};
use rustix::buffer::spare_capacity;
use rustix::net::{SendFlags, send};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, sleep, timeout};

use super::wire::{self, Fields};
use crate::error::Error;
use crate::key::{Fence, KeyId, Lease};
use crate::store::{Leasing, Release, Store};

/// Room for what is read at a time: some hundred small requests.
const INPUT_BYTES: usize = 16 * 1024;
/// A longer head is left to hyper.
const HEAD_BYTES_MAX: usize = INPUT_BYTES / 2;
/// A head with more fields is left to hyper.
const FIELDS_MAX: usize = 32;
/// A connection is given up if it brings no request for so many halves of the head timeout, the first
/// of which may have begun before.
const IDLE_TICKS: u32 = 5;
/// The same while a head has begun.
const HEAD_TICKS: u32 = 2;

const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\n";
const FIELDS: &[u8] = b"content-type: application/json\r\ncache-control: no-store\r\n";
const LENGTH: &[u8] = b"content-length: ";
const DATE: &[u8] = b"\r\ndate: ";
const END: &[u8] = b"\r\n\r\n";

/// How the hot part of a connection ended.
pub(super) enum End {
    /// The connection is done with.
    Closed,
    /// It goes on with what was read and is not hot.
    Other(Vec<u8>),
}

/// What a connection waits for.
enum Event {
    Input,
    /// The client has gone, or the server stops.
    End,
    Tick,
}

enum Parsed {
    /// A request, and its length.
    Hot(Hot, usize),
    /// The beginning of a head.
    Partial,
    Other,
}

#[derive(Clone, Copy)]
enum Hot {
    Lease,
    Show(KeyId),
    Release(KeyId),
    Delete(KeyId),
    KeepAlive(KeyId),
}

/// Answers the hot requests of a connection, until there is another, or it ends, or `stopped` has
/// changed and no request is waiting.
pub(super) async fn serve<S: Store>(
    stream: &mut TcpStream,
    store: &S,
    head_timeout: Duration,
    stopped: &mut watch::Receiver<()>,
) -> End {
    let mut input = Vec::new();
    let mut requests = Vec::new();
    let mut answers = Answers::default();
    // Checked now and then instead of being set anew for each request.
    let period = head_timeout / 2;
    let mut idle_ticks = 0;
    let has_stopped = stopped.clone();
    let mut stop = pin!(stopped.changed());
    let mut tick = pin!(sleep(period));
    let mut is_armed = false;
    loop {
        let was_idle = input.is_empty();
        let event = poll_fn(|cx| {
            if let Poll::Ready(read) = poll_read(stream, &mut input, cx) {
                let has_input = read.is_ok_and(|length| length > 0);
                return Poll::Ready(if has_input { Event::Input } else { Event::End });
            }
            if has_stopped.has_changed().unwrap_or(true) {
                return Poll::Ready(Event::End);
            }
            // What was polled once wakes this task when its time comes, however often the task
            // has been woken by input since. So it is not polled for each request.
            if is_armed && !tick.is_elapsed() {
                return Poll::Pending;
            }
            // Without a budget nothing is armed, but this task is polled again at once.
            is_armed = has_budget_remaining();
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::End);
            }
            ready!(tick.as_mut().poll(cx));
            tick.as_mut().reset(Instant::now() + period);
            is_armed = false;
            Poll::Ready(Event::Tick)
        });
        match event.await {
            // Half the head timeout at least is left to a head that begins.
            Event::Input if was_idle => idle_ticks = 0,
            Event::Input => {}
            Event::End => return End::Closed,
            Event::Tick => {
                idle_ticks += 1;
                if input.is_empty() {
                    // Many idle connections shall need little.
                    (input, requests, answers) = Default::default();
                }
                if idle_ticks >= if input.is_empty() { IDLE_TICKS } else { HEAD_TICKS } {
                    return End::Closed;
                }
                continue;
            }
        }
        let mut done = 0;
        let is_other = loop {
            match parse(&input[done..]) {
                Parsed::Hot(request, length) => {
                    requests.push(request);
                    done += length;
                }
                Parsed::Partial => break false,
                Parsed::Other => break true,
            }
        };
        answers.add_all(store, &mut requests).await;
        if done > 0 {
            idle_ticks = 0;
            input.drain(..done);
            if !answers.send(stream, head_timeout).await {
                return End::Closed;
            }
        }
        if is_other {
            return End::Other(input);
        }
    }
}

/// Reads once, at most what `input` has room for. As tokio does, but without libc, which asks
/// before and after whether the thread was cancelled: a tenth of what a request costs outside the
/// kernel.
fn poll_read(
    stream: &TcpStream,
    input: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        if input.is_empty() {
            input.reserve(INPUT_BYTES);
        }
        let room = input.capacity() - input.len();
        let mut some = None;
        let none = stream.try_io(Interest::READABLE, || {
            match rustix::io::read(stream, spare_capacity(input))? {
                // That was all. To say so spares asking again: the kernel tells of what comes next.
                length if 0 < length && length < room => {
                    some = Some(length);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                length => Ok(length),
            }
        });
        match (some, none) {
            (Some(length), _) => return Poll::Ready(Ok(length)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            (None, result) => return Poll::Ready(result),
        }
    }
}

fn parse(input: &[u8]) -> Parsed {
    let mut fields = [const { MaybeUninit::<Header>::uninit() }; FIELDS_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut fields) {
        Ok(Status::Complete(length)) => {
            hot(&request).map_or(Parsed::Other, |hot| Parsed::Hot(hot, length))
        }
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => Parsed::Partial,
        _ => Parsed::Other,
    }
}

fn hot(request: &Request<'_, '_>) -> Option<Hot> {
    if request.version != Some(1) || !request.headers.iter().all(is_usual) {
        return None;
    }
    let path = request.path?;
    if let Some(id) = path.strip_prefix("/keys/") {
        let id = id.parse().ok()?;
        return match request.method? {
            "GET" => Some(Hot::Show(id)),
            "PUT" => Some(Hot::Release(id)),
            "DELETE" => Some(Hot::Delete(id)),
            _ => None,
        };
    }
    match (request.method?, path) {
        ("GET", "/keys") => Some(Hot::Lease),
        ("PUT", _) => Some(Hot::KeepAlive(path.strip_prefix("/keepalive/")?.parse().ok()?)),
        _ => None,
    }
}

/// Whether a field means nothing to the connection, to the length of the request, or to a key.
fn is_usual(field: &Header<'_>) -> bool {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    match field.name.len() {
        6 => !is("expect"),
        8 => !is("if-match"),
        7 => !is("upgrade"),
        10 => !is("connection") || field.value.eq_ignore_ascii_case(b"keep-alive"),
        14 => !is("content-length") || field.value == b"0",
        17 => !is("transfer-encoding"),
        _ => true,
    }
}

/// Answers that are yet to be sent.
#[derive(Default)]
struct Answers {
    output: Vec<u8>,
    body: Vec<u8>,
    ids: Vec<KeyId>,
    /// The second that `date` shows.
    second: i64,
    date: String,
}

impl Answers {
    /// Does what pipelined requests ask for, in their order, and writes the answers.
    async fn add_all<S: Store>(&mut self, store: &S, requests: &mut Vec<Hot>) {
        if let [request] = requests[..] {
            // By far the commonest.
            requests.clear();
            let done = self.act(store, request).await;
            return self.add(store, done).await;
        }
        let ids = requests.iter().filter_map(|request| match request {
            Hot::Lease => None,
            Hot::Show(id) | Hot::Release(id) | Hot::Delete(id) | Hot::KeepAlive(id) => Some(*id),
        });
        self.ids.extend(ids);
        store.prefetch(&self.ids);
        self.ids.clear();
        for run in requests.chunk_by(|a, b| matches!((a, b), (Hot::Lease, Hot::Lease))) {
            if let [Hot::Lease, _, ..] = run {
                // Those that follow one another are leased together, which is faster.
                let leases = store.lease_many(Leasing::default(), run.len()).await;
                let leases = leases.unwrap_or_default();
                for n in 0..run.len() {
                    let done =
                        leases.get(n).ok_or(Error::Exhausted).map(|lease| self.leased(lease));
                    self.add(store, done).await;
                }
            } else {
                for request in run {
                    let done = self.act(store, *request).await;
                    self.add(store, done).await;
                }
            }
        }
        requests.clear();
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
    async fn add<S: Store>(&mut self, store: &S, done: Result<Fields, Error>) {
        let (status, fields) = match done {
            Ok(fields) => (FOUND, fields),
            Err(error) => {
                wire::empty(&mut self.body);
                let is_exhausted = error == Error::Exhausted;
                debug_assert!(is_exhausted || error == Error::NotFound, "not hot: {error}");
                let fields = if is_exhausted {
                    Fields::of_exhausted(store).await
                } else {
                    Fields::default()
                };
                (NOT_FOUND, fields)
            }
        };
        if self.output.is_empty() {
            self.set_date();
        }
        let output = &mut self.output;
        let mut put = |part: &[u8]| output.extend_from_slice(part);
        put(status);
        put(FIELDS);
        fields.each(store, |name, value| {
            [name.as_bytes(), b": ", value, b"\r\n"].into_iter().for_each(&mut put);
        });
        put(LENGTH);
        put(itoa::Buffer::new().format(self.body.len()).as_bytes());
        [DATE, self.date.as_bytes(), END, &self.body].into_iter().for_each(put);
        self.body.clear();
    }

    fn set_date(&mut self) {
        // A clock that is a few milliseconds behind, and needs no look at the hardware.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.second = second;
            self.date = httpdate::fmt_http_date(SystemTime::now());
        }
    }

    /// Sends all that was written. False if the client has gone or takes nothing any more.
    async fn send(&mut self, stream: &mut TcpStream, patience: Duration) -> bool {
        let write = || Ok(send(&*stream, &self.output, SendFlags::NOSIGNAL)?);
        let sent = match stream.try_io(Interest::WRITABLE, write) {
            Ok(sent) if sent == self.output.len() => true,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => false,
            sent => {
                let rest = &self.output[sent.unwrap_or(0)..];
                timeout(patience, stream.write_all(rest)).await.is_ok_and(|sent| sent.is_ok())
            }
        };
        self.output.clear();
        sent
    }
}
