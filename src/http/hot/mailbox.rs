//! How others reach a thread that waits for its connections.

use std::io;
use std::mem::take;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use tokio::sync::OwnedSemaphorePermit;

pub(super) enum Message {
    /// A new connection.
    Arrived(TcpStream, OwnedSemaphorePermit),
    /// What a connection waited for.
    Answered {
        index: usize,
        /// That of the loop whose connection it is.
        generation: u64,
        /// Without it the connection is of no more use.
        output: Option<Vec<u8>>,
    },
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

    pub(in crate::http) fn add(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        self.put(Message::Arrived(stream, place));
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
    pub(super) fn next_generation(&self) -> u64 {
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

/// What a connection waits for: answered when it goes, also if that is because of a panic.
pub(super) struct Late {
    mailbox: Arc<Mailbox>,
    index: usize,
    generation: u64,
    output: Option<Vec<u8>>,
}

impl Late {
    pub(super) fn new(mailbox: Arc<Mailbox>, index: usize, generation: u64) -> Self {
        Self { mailbox, index, generation, output: None }
    }

    pub(super) fn set(&mut self, output: Vec<u8>) {
        self.output = Some(output);
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let Self { index, generation, .. } = *self;
        self.mailbox.put(Message::Answered { index, generation, output: self.output.take() });
    }
}
