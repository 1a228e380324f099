//! The event loop: waiting for input on many connections, and answering what has come.

use std::io;
use std::mem::{MaybeUninit, take};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::debug;

use super::answers::Answers;
use super::connection::Connection;
use super::mailbox::{Late, Mailbox, Message};
use super::parse::{Hot, Parsed, parse};
use crate::http::auth::Access;
use crate::http::meter::{Metrics, Tally};
use crate::http::wire::HEAD_BYTES_MAX;
use crate::store::Store;

/// Room for what is read at a time: some hundred small requests. The longest head that is waited for.
const INPUT_BYTES: usize = HEAD_BYTES_MAX;
/// How many connections are looked at before the answers are written.
const EVENTS_MAX: usize = 128;
/// How many requests are read before they are answered: some 300 µs.
const REQUESTS_MAX: usize = 512;
/// A connection is given up if it brings no request for so many halves of the head timeout, the
/// first of which may have begun before.
const IDLE_TICKS: u32 = 5;
/// The same while a head has begun, or answers are not taken.
const HEAD_TICKS: u32 = 2;
/// How often a connection is read once the server stops: what it has sent by then, and not all that
/// it goes on to send.
const LAST_READS: u32 = 4;
/// What tells that the input has an end. It comes once, perhaps together with the last input.
const ENDING: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
/// The event of the mailbox. No connection has this number.
const MAIL: u64 = u64::MAX;

/// A connection that is not hot any more, with what was read of it.
pub(in crate::http) struct Other {
    pub(in crate::http) stream: TcpStream,
    pub(in crate::http) read: Vec<u8>,
    /// Nothing was answered yet: it may be one of HTTP/2.
    pub(in crate::http) is_new: bool,
    pub(in crate::http) place: OwnedSemaphorePermit,
}

impl Other {
    /// One that never was hot.
    pub(in crate::http) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream, read: Vec::new(), is_new: true, place }
    }
}

/// What all threads share.
pub(in crate::http) struct Shared<S> {
    pub(in crate::http) store: Arc<S>,
    pub(in crate::http) access: Access,
    pub(in crate::http) metrics: Arc<Metrics>,
    pub(in crate::http) head_timeout: Duration,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        let (store, metrics) = (Arc::clone(&self.store), Arc::clone(&self.metrics));
        Self { store, access: self.access.clone(), metrics, head_timeout: self.head_timeout }
    }
}

/// One thread's connections.
pub(super) struct Loop<S> {
    store: Arc<S>,
    access: Access,
    metrics: Arc<Metrics>,
    tally: Arc<Tally>,
    runtime: Handle,
    mailbox: Arc<Mailbox>,
    /// Among the loops that had this mailbox.
    generation: u64,
    others: mpsc::UnboundedSender<Other>,
    /// Half the head timeout.
    period: Duration,
    next_tick: Instant,
    /// Connections end as soon as nothing is to be read.
    is_stopping: bool,
    poll: OwnedFd,
    connections: Slab<Connection>,
    input: Box<[u8]>,
    /// What was read and is not yet done, with the connection that it came by.
    requests: Vec<(usize, Hot)>,
    /// Connections that may have more to read.
    again: Vec<usize>,
    /// Requests of a connection that were not answered at once.
    late: Vec<Hot>,
    answers: Answers,
}

impl<S: Store> Loop<S> {
    pub(super) fn new(
        shared: Shared<S>,
        tally: Arc<Tally>,
        runtime: Handle,
        mailbox: Arc<Mailbox>,
        others: mpsc::UnboundedSender<Other>,
    ) -> io::Result<Self> {
        let Shared { store, access, metrics, head_timeout } = shared;
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&poll, mailbox.bell(), EventData::new_u64(MAIL), EventFlags::IN)?;
        let period = head_timeout / 2;
        Ok(Self {
            store,
            access,
            metrics,
            tally,
            runtime,
            generation: mailbox.next_generation(),
            mailbox,
            others,
            period,
            next_tick: Instant::now() + period,
            is_stopping: false,
            poll,
            connections: Slab::new(),
            input: vec![0; INPUT_BYTES].into(),
            requests: Vec::new(),
            again: Vec::new(),
            late: Vec::new(),
            answers: Answers::default(),
        })
    }

    pub(super) fn run(&mut self) {
        let mut ready = Vec::new();
        let mut now = Instant::now();
        while !self.mailbox.is_cut_off() {
            if !self.is_stopping && self.mailbox.is_stopping() {
                self.is_stopping = true;
                self.again.extend(self.connections.iter().map(|(index, _)| index));
            }
            self.wait(&mut ready, now);
            let begin = Instant::now();
            for index in ready.drain(..) {
                self.read(index);
                if self.requests.len() >= REQUESTS_MAX {
                    self.answer();
                }
            }
            self.answer();
            if self.is_done() {
                return;
            }
            now = Instant::now();
            self.answers.count(&self.tally, now - begin);
            if now >= self.next_tick {
                self.tick();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.is_stopping && self.connections.is_empty()
    }

    /// Waits until something is ready, or the next tick.
    fn wait(&mut self, ready: &mut Vec<usize>, now: Instant) {
        ready.append(&mut self.again);
        let has_time = ready.is_empty() && !self.is_done();
        let until_tick = self.next_tick.saturating_duration_since(now);
        let patience = if has_time { until_tick } else { Duration::ZERO };
        let patience = Timespec::try_from(patience).ok();
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        // It fails only if it was interrupted.
        let Ok((events, _)) = epoll::wait(&self.poll, &mut events, patience.as_ref()) else {
            return;
        };
        let mut has_mail = false;
        for event in events {
            let (data, flags) = (event.data, event.flags);
            match usize::try_from(data.u64()) {
                Ok(index) if data.u64() != MAIL => {
                    ready.push(index);
                    if let Some(connection) = self.connections.get_mut(index) {
                        connection.is_ending |= flags.intersects(ENDING);
                    }
                }
                _ => has_mail = true,
            }
        }
        // What came before the stop must be seen before all is done.
        if has_mail || self.is_stopping {
            for message in self.mailbox.take() {
                match message {
                    Message::Arrived(stream, place) => self.add(stream, place),
                    Message::Answered { index, generation, output } => {
                        if generation == self.generation {
                            self.resume(index, output);
                        }
                    }
                }
            }
        }
        ready.append(&mut self.again);
    }

    fn add(&mut self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let entry = self.connections.vacant_entry();
        let data = EventData::new_u64(entry.key() as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        match epoll::add(&self.poll, &stream, data, flags) {
            Ok(()) => {
                // It may have brought something already.
                self.again.push(entry.key());
                entry.insert(Connection::new(stream, place));
            }
            Err(error) => debug!("a connection cannot be waited for: {error}"),
        }
    }

    /// Goes on with a connection that waited for late answers.
    fn resume(&mut self, index: usize, output: Option<Vec<u8>>) {
        let connection = &mut self.connections[index];
        connection.is_busy = false;
        match output {
            Some(output) => {
                connection.output.extend_from_slice(&output);
                self.again.push(index);
            }
            None => drop(self.connections.remove(index)),
        }
    }

    /// Gives up who has been idle for too long.
    fn tick(&mut self) {
        self.next_tick = Instant::now() + self.period;
        self.connections.retain(|_, connection| {
            connection.ticks += 1;
            connection.is_busy
                || connection.ticks < if connection.is_idle() { IDLE_TICKS } else { HEAD_TICKS }
        });
    }

    /// Reads requests, once: others shall have their turn.
    fn read(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.is_busy {
            return;
        }
        if connection.has_requests {
            return self.again.push(index);
        }
        if connection.flush().is_err() {
            return drop(self.connections.remove(index));
        }
        if !connection.output.is_empty() || connection.is_other {
            return self.hand_over(index);
        }
        if self.is_stopping {
            connection.last_reads += 1;
            if connection.last_reads > LAST_READS {
                return drop(self.connections.remove(index));
            }
        }
        let held = connection.input.len();
        self.input[..held].copy_from_slice(&connection.input);
        let length = match rustix::io::read(&connection.stream, &mut self.input[held..]) {
            Ok(length) if length > 0 => held + length,
            Err(Errno::AGAIN | Errno::INTR) if !self.is_stopping => return,
            _ => return drop(self.connections.remove(index)),
        };
        if length == self.input.len() || connection.is_ending {
            self.again.push(index);
        }
        let mut input = &self.input[..length];
        loop {
            match parse(input) {
                Parsed::Hot(request, length, authorization)
                    if connection.may(&self.access, request, authorization) =>
                {
                    self.requests.push((index, request));
                    connection.has_requests = true;
                    input = &input[length..];
                }
                Parsed::Partial => break,
                // The other path refuses as well.
                Parsed::Hot(..) | Parsed::Other => {
                    connection.is_other = true;
                    break;
                }
            }
        }
        // Half the head timeout at least is left to a head that begins.
        if held == 0 || connection.has_requests {
            connection.ticks = 0;
        }
        // Many idle connections shall need little: most have read whole heads, and hold nothing.
        connection.input = input.to_vec();
        if !connection.has_requests {
            self.hand_over(index);
        }
    }

    /// Does what was read, in its order, and sends the answers.
    fn answer(&mut self) {
        let mut requests = take(&mut self.requests);
        self.answers.prefetch(&*self.store, &requests);
        for begin in 0..requests.len() {
            let (index, request) = requests[begin];
            let is_first = begin == 0 || requests[begin - 1].0 != index;
            let is_last = requests.get(begin + 1).is_none_or(|(next, _)| *next != index);
            if is_first {
                self.late.clear();
            }
            // What comes behind a late one is late.
            if !S::MAY_ASK_AGAIN
                || !self.late.is_empty()
                || !self.answers.add_at_once(&*self.store, &requests[begin..])
            {
                self.late.push(request);
            }
            if is_last {
                self.send(index);
            }
        }
        requests.clear();
        self.requests = requests;
    }

    /// Sends the answers that were written to a connection, and has a task do what is late.
    fn send(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.has_requests = false;
        connection.is_new = false;
        let is_sent = connection.send(&self.answers.output);
        self.answers.output.clear();
        if !self.late.is_empty() {
            connection.is_busy = true;
            let (store, mailbox) = (Arc::clone(&self.store), Arc::clone(&self.mailbox));
            let (generation, metrics) = (self.generation, Arc::clone(&self.metrics));
            let mut late = Late::new(mailbox, index, generation);
            let requests = take(&mut self.late);
            self.runtime.spawn(async move {
                let (mut answers, begin) = (Answers::default(), Instant::now());
                for request in requests {
                    answers.add(&*store, request).await;
                    answers.count(metrics.shared(), begin.elapsed());
                }
                late.set(answers.output);
            });
        } else if is_sent.is_err() {
            self.connections.remove(index);
        } else {
            if self.is_stopping {
                self.again.push(index);
            }
            self.hand_over(index);
        }
    }

    /// Gives a connection away if it is not hot and all answers were sent.
    fn hand_over(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !connection.is_other || connection.is_unfinished() {
            return;
        }
        let Connection { stream, input: read, is_new, place, .. } = self.connections.remove(index);
        // If it fails it is closed below, and the server is ending.
        let _ = epoll::delete(&self.poll, &stream);
        let _ = self.others.send(Other { stream, read, is_new, place });
    }
}
