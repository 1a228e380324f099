//! Messages to an event loop from other threads, which wake it.

use std::convert::Infallible;
use std::io;
use std::mem::take;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::task::Wake;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use tokio::sync::mpsc;

use super::session::Session;
use crate::http::api::Place;
use crate::key::Lease;
use crate::store::{Outcome, lease_of};

pub(super) enum Message {
    /// A connection that is new, or back from hyper.
    Arrived(Transfer),
    /// An operation that the store has completed later.
    Completed {
        /// The generation of the loop that asked for it.
        generation: u64,
        token: u64,
        outcome: Outcome,
    },
    /// Dropped as soon as the loop sees it, which tells that the loop makes progress.
    Feel(
        #[expect(dead_code, reason = "that it is dropped is what tells")] mpsc::Sender<Infallible>,
    ),
}

/// A connection on its way from one thread to another.
pub(in crate::http) struct Transfer {
    pub(in crate::http) stream: TcpStream,
    /// Its TLS, after the handshake.
    pub(in crate::http) session: Option<Session>,
    /// What was read from it but not answered yet.
    pub(in crate::http) read: Vec<u8>,
    /// Nothing was answered yet, so it may be an HTTP/2 connection.
    pub(in crate::http) is_new: bool,
    /// Counts towards the limits on connections.
    pub(in crate::http) place: Place,
    /// Where it goes back to when its client rests, if it comes from the hot path.
    pub(in crate::http) home: Option<Arc<Mailbox>>,
}

impl Transfer {
    /// A connection that was just accepted.
    pub(in crate::http) fn new(stream: TcpStream, place: Place) -> Self {
        Self { stream, session: None, read: Vec::new(), is_new: true, place, home: None }
    }
}

const SERVING: u8 = 0;
const DRAINING: u8 = 1;
const STOPPING: u8 = 2;
const CUT_OFF: u8 = 3;

/// The messages to the event loop of one thread. It outlives a loop that panics.
pub(in crate::http) struct Mailbox {
    /// `None` once the thread has ended and takes no more.
    messages: Mutex<Option<Vec<Message>>>,
    phase: AtomicU8,
    generations: AtomicU64,
    /// Readable while there is news for the loop, which waits for it together with its connections.
    bell: OwnedFd,
}

impl Mailbox {
    /// # Errors
    ///
    /// If the system has no more file descriptors.
    pub(in crate::http) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (messages, phase) = (Mutex::new(Some(Vec::new())), AtomicU8::new(SERVING));
        Ok(Self { messages, phase, generations: AtomicU64::default(), bell })
    }

    /// Gives a connection to the thread.
    ///
    /// # Errors
    ///
    /// Returns the connection if the thread has ended.
    pub(in crate::http) fn add(&self, connection: Transfer) -> Result<(), Transfer> {
        match self.put(Message::Arrived(connection)) {
            Err(Message::Arrived(connection)) => Err(connection),
            _ => Ok(()),
        }
    }

    /// Tells the thread that the server is about to stop: each answer closes its connection.
    pub(in crate::http) fn drain(&self) {
        self.phase.fetch_max(DRAINING, SeqCst);
        self.ring();
    }

    /// Drops `alive` as soon as the loop looks for messages, or at once if the thread has ended.
    pub(in crate::http) fn feel(&self, alive: mpsc::Sender<Infallible>) {
        // A message that is refused is dropped.
        let _ = self.put(Message::Feel(alive));
    }

    /// Tells the thread to end once all requests that have come are answered.
    pub(in crate::http) fn stop(&self) {
        self.phase.fetch_max(STOPPING, SeqCst);
        self.ring();
    }

    /// Tells the thread to end at once.
    pub(in crate::http) fn cut_off(&self) {
        self.phase.fetch_max(CUT_OFF, SeqCst);
        self.ring();
    }

    /// A number that no loop has had before.
    pub(super) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, SeqCst)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.phase.load(SeqCst) >= DRAINING
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase.load(SeqCst) >= STOPPING
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.phase.load(SeqCst) == CUT_OFF
    }

    /// Adds a message, and wakes the loop.
    ///
    /// # Errors
    ///
    /// Returns the message if the thread has ended.
    pub(super) fn put(&self, message: Message) -> Result<(), Message> {
        match &mut *self.messages.lock() {
            Some(messages) => messages.push(message),
            None => return Err(message),
        }
        self.ring();
        Ok(())
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> Vec<Message> {
        // Reset first, so that a message that comes now rings again.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.messages.lock().as_mut().map_or_else(Vec::new, take)
    }

    /// Takes the connections that have come.
    #[cfg(test)]
    pub(in crate::http) fn take_arrivals(&self) -> Vec<Transfer> {
        let arrival = |message| match message {
            Message::Arrived(arrival) => Some(arrival),
            _ => None,
        };
        self.take().into_iter().filter_map(arrival).collect()
    }

    /// Refuses messages from now on, unless some are left to take: then false.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut messages = self.messages.lock();
        if messages.as_ref().is_some_and(|messages| !messages.is_empty()) {
            return false;
        }
        *messages = None;
        true
    }

    /// Refuses messages from now on. Closes the connections that are left, and returns the leases.
    pub(super) fn close(&self) -> Vec<Lease> {
        let messages = self.messages.lock().take().unwrap_or_default();
        let lease = |message: &Message| match message {
            Message::Completed { outcome, .. } => lease_of(outcome),
            Message::Arrived(_) | Message::Feel(_) => None,
        };
        messages.iter().filter_map(lease).collect()
    }

    /// What becomes readable when there is news.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Makes the loop look for news.
    fn ring(&self) {
        // It fails only if it has rung 2^64 times without a reset.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// A store wakes the loop when parked answers may leave.
impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
