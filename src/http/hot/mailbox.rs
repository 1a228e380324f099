//! How an event loop is reached while it waits for its connections.

use std::io;
use std::mem::take;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use tokio::sync::OwnedSemaphorePermit;

use crate::store::{Complete, Outcome};

pub(super) enum Message {
    /// A connection that is new, or back from hyper.
    Arrived(Arrival),
    /// What a store completed later.
    Completed {
        /// That of the loop that asked for it.
        generation: u64,
        token: u64,
        outcome: Outcome,
    },
}

/// A connection that comes to a thread.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) permit: OwnedSemaphorePermit,
    /// What was read of it and is not answered.
    pub(super) read: Vec<u8>,
    /// Nothing was answered yet.
    pub(super) is_new: bool,
}

const SERVING: u8 = 0;
const STOPPING: u8 = 1;
const CUT_OFF: u8 = 2;

pub(in crate::http) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    phase: AtomicU8,
    generations: AtomicU64,
    /// Readable while there is something new.
    bell: OwnedFd,
}

impl Mailbox {
    /// # Errors
    ///
    /// If the system has no more file descriptors.
    pub(in crate::http) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (messages, generations) = Default::default();
        Ok(Self { messages, phase: AtomicU8::new(SERVING), generations, bell })
    }

    /// Gives the thread a new connection.
    pub(in crate::http) fn add(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        self.put(Message::Arrived(Arrival { stream, permit, read: Vec::new(), is_new: true }));
    }

    /// Gives it one back that it had handed over, with what was read and is not answered.
    pub(in crate::http) fn give_back(
        &self,
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        read: Vec<u8>,
    ) {
        self.put(Message::Arrived(Arrival { stream, permit, read, is_new: false }));
    }

    /// Lets the thread end when all that has come is answered.
    pub(in crate::http) fn stop(&self) {
        self.phase.store(STOPPING, SeqCst);
        self.ring();
    }

    /// Lets the thread end at once.
    pub(in crate::http) fn cut_off(&self) {
        self.phase.store(CUT_OFF, SeqCst);
        self.ring();
    }

    /// One that no loop had before.
    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase.load(SeqCst) != SERVING
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.phase.load(SeqCst) == CUT_OFF
    }

    pub(super) fn put(&self, message: Message) {
        self.messages.lock().push(message);
        self.ring();
    }

    pub(super) fn take(&self) -> Vec<Message> {
        // Silent before the messages are taken, so that one that comes now rings again.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        take(&mut self.messages.lock())
    }

    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    fn ring(&self) {
        // It fails only if it has rung 2^64 times.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// Receives what a store completes later, for one loop.
pub(super) struct Completions {
    mailbox: Arc<Mailbox>,
    generation: u64,
}

impl Completions {
    pub(super) fn new(mailbox: &Arc<Mailbox>) -> Self {
        Self { mailbox: Arc::clone(mailbox), generation: mailbox.next_generation() }
    }

    /// Among the loops that had this mailbox.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Complete for Completions {
    fn complete(&self, token: u64, outcome: Outcome) -> bool {
        let is_wanted = !self.mailbox.is_cut_off();
        if is_wanted {
            self.mailbox.put(Message::Completed { generation: self.generation, token, outcome });
        }
        is_wanted
    }
}
