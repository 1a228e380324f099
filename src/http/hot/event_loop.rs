//! The event loop: it waits for input on many connections, and answers the requests that have arrived.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use slab::Slab;
use tokio::sync::mpsc;
use tracing::debug;

use super::answers::Answers;
use super::batch::Batch;
use super::completions::Completions;
use super::connection::Connection;
use super::known_host::KnownHost;
use super::known_pool::KnownPool;
use super::mailbox::{Mailbox, Message, Transfer};
use super::parked::Parked;
use crate::http::api::Timeouts;
use crate::http::audit::AuditLog;
use crate::http::auth::Access;
use crate::http::meter::Tally;
use crate::http::wire::{Budget, HEAD_BYTES_MAX};
use crate::store::{Later, Store};

/// Room for what is read at a time: a few hundred small requests, or the longest head.
const INPUT_BYTES: usize = HEAD_BYTES_MAX;
/// How many events are taken from epoll at a time.
const EVENTS_MAX: usize = 128;
/// How many requests are read before they are answered: some 300 µs.
const REQUESTS_MAX: usize = 512;
/// Ticks in the shorter one of the timeouts. A connection is closed at most two ticks after its timeout.
const TICKS: u32 = 8;
/// From tick to tick once the server drains, to close connections that linger.
const DRAINING_TICK: Duration = Duration::from_millis(100);
/// The input has an end. This is reported once, perhaps together with the last input.
const ENDING: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
/// The client does not receive answers any more.
const GONE: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
/// Marks the event of the mailbox. No connection has this index.
const MAIL: u64 = u64::MAX;

/// What all threads share.
pub(in crate::http) struct Shared<S> {
    pub(in crate::http) store: Arc<S>,
    pub(in crate::http) access: Access,
    pub(in crate::http) budget: Budget,
    pub(in crate::http) timeouts: Timeouts,
    pub(in crate::http) audit: Option<AuditLog>,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        let (store, access) = (Arc::clone(&self.store), self.access.clone());
        let timeouts = self.timeouts;
        let (budget, audit) = (self.budget.clone(), self.audit.clone());
        Self { store, access, budget, timeouts, audit }
    }
}

/// One thread's connections.
pub(super) struct Loop<S> {
    pub(super) store: Arc<S>,
    pub(super) access: Access,
    pub(super) budget: Budget,
    pub(super) tally: Arc<Tally>,
    pub(super) mailbox: Arc<Mailbox>,
    /// Tells this loop from earlier ones with the same mailbox, which have panicked.
    pub(super) generation: u64,
    /// Receives the outcomes that come later, and holds the token of the next operation.
    pub(super) later: Later,
    pub(super) cold: mpsc::UnboundedSender<Transfer>,
    timeouts: Timeouts,
    next_tick: Instant,
    /// Each answer closes its connection.
    pub(super) is_draining: bool,
    /// Connections are closed as soon as nothing is left to read.
    pub(super) is_stopping: bool,
    pub(super) poll: OwnedFd,
    pub(super) connections: Slab<Connection>,
    /// How many connections there were.
    connections_count: u64,
    pub(super) input: Box<[u8]>,
    /// Room for what is read over TLS at a time, before it is decrypted.
    pub(super) sealed: Box<[u8]>,
    /// Requests that were read and not executed yet.
    pub(super) batch: Batch,
    /// The connections that wait for operations, by the operations' tokens.
    pub(super) waiting: HashMap<u64, usize>,
    /// Connections that may have more to read.
    pub(super) again: Vec<usize>,
    pub(super) answers: Answers,
    /// Answers that wait until what they rest on is durable.
    pub(super) parked: Parked,
    /// Wakes the loop when they may leave.
    commit_waker: Waker,
    /// When the requests of the batch came.
    pub(super) turn_began: Instant,
    pub(super) known_host: KnownHost,
    pub(super) known_pool: KnownPool,
}

impl<S: Store> Loop<S> {
    pub(super) fn new(
        shared: Shared<S>,
        tally: Arc<Tally>,
        mailbox: Arc<Mailbox>,
        cold: mpsc::UnboundedSender<Transfer>,
    ) -> io::Result<Self> {
        let Shared { store, access, budget, timeouts, audit } = shared;
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&poll, mailbox.bell(), EventData::new_u64(MAIL), EventFlags::IN)?;
        let (completions, now) = (Completions::new(&mailbox), Instant::now());
        Ok(Self {
            store,
            access,
            budget,
            tally,
            generation: completions.generation(),
            later: Later { receiver: Arc::new(completions), first_token: 0 },
            commit_waker: Waker::from(Arc::clone(&mailbox)),
            mailbox,
            cold,
            timeouts,
            next_tick: now + timeouts.shorter() / TICKS,
            is_draining: false,
            is_stopping: false,
            poll,
            connections: Slab::new(),
            connections_count: 0,
            input: vec![0; INPUT_BYTES].into(),
            sealed: vec![0; INPUT_BYTES].into(),
            batch: Batch::default(),
            waiting: HashMap::new(),
            again: Vec::new(),
            answers: Answers::new(audit),
            parked: Parked::default(),
            turn_began: now,
            known_host: KnownHost::default(),
            known_pool: KnownPool::default(),
        })
    }

    /// Serves connections until the mailbox says to stop and all requests are answered, or until it says to
    /// end at once. After that the mailbox refuses messages.
    pub(super) fn run(&mut self) {
        let mut ready = Vec::new();
        let mut now = Instant::now();
        let requests_max = self.store.commit_group().min(REQUESTS_MAX);
        while !self.mailbox.is_cut_off() {
            if !self.is_draining && self.mailbox.is_draining() {
                self.is_draining = true;
                self.next_tick = now;
            }
            if !self.is_stopping && self.mailbox.is_stopping() {
                self.is_stopping = true;
                self.again.extend(self.connections.iter().map(|(index, _)| index));
            }
            self.wait(&mut ready, now);
            self.turn_began = Instant::now();
            for index in ready.drain(..) {
                self.read(index);
                if self.batch.len() >= requests_max {
                    self.answer();
                    self.send_committed();
                }
            }
            self.answer();
            now = Instant::now();
            self.answers.counts.move_to(&self.tally, now - self.turn_began);
            if self.is_done() && self.mailbox.close_if_empty() {
                return;
            }
            if now >= self.next_tick {
                self.tick(now);
            }
        }
        self.close();
    }

    fn is_done(&self) -> bool {
        self.is_stopping && self.connections.is_empty() && self.parked.is_empty()
    }

    /// Waits until connections are ready or messages have come, but not past the next tick.
    fn wait(&mut self, ready: &mut Vec<usize>, now: Instant) {
        ready.append(&mut self.again);
        let has_time = ready.is_empty() && !self.is_done();
        if has_time {
            self.parked.await_commit(&*self.store, &self.commit_waker);
        }
        let until_tick = self.next_tick.saturating_duration_since(now);
        let patience = if has_time { until_tick } else { Duration::ZERO };
        let patience = Timespec::try_from(patience).ok();
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        // It fails only if a signal interrupts it.
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
                        connection.has_gone |= flags.intersects(GONE);
                    }
                }
                _ => has_mail = true,
            }
        }
        // A connection that came before the stop must be seen before the loop ends.
        if has_mail || self.is_stopping {
            for message in self.mailbox.take() {
                match message {
                    Message::Arrived(arrival) => self.add(arrival),
                    Message::Completed { generation, token, outcome } => {
                        self.complete(generation, token, &outcome);
                    }
                    Message::Feel(_) => {}
                }
            }
        }
        self.send_committed();
        ready.append(&mut self.again);
    }

    fn add(&mut self, arrival: Transfer) {
        let entry = self.connections.vacant_entry();
        let data = EventData::new_u64(entry.key() as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        match epoll::add(&self.poll, &arrival.stream, data, flags) {
            Ok(()) => {
                // It may have input already.
                self.again.push(entry.key());
                entry.insert(Connection::new(arrival, self.connections_count));
                self.connections_count += 1;
            }
            Err(error) => debug!("a connection cannot be registered with epoll: {error}"),
        }
    }

    /// Closes connections that have made no progress for too long. O(c) for c connections.
    fn tick(&mut self, now: Instant) {
        let period = self.timeouts.shorter() / TICKS;
        let period = if self.is_draining { period.min(DRAINING_TICK) } else { period };
        self.next_tick = now + period;
        let Timeouts { idle, head } = self.timeouts;
        self.connections.retain(|_, connection| {
            let since = *connection.idle_since.get_or_insert(now);
            let timeout = if connection.is_idle() { idle } else { head };
            let has_time = connection.waits_for_store() || now - since < timeout;
            if !has_time {
                connection.end_output();
            }
            has_time && !connection.has_lingered(now)
        });
        // Gives back the memory of a rush of connections.
        if self.connections.len() < self.connections.capacity() / 4 {
            self.connections.shrink_to_fit();
        }
    }
}
