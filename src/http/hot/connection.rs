//! What a thread knows of one of its connections.

use std::net::TcpStream;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::sync::OwnedSemaphorePermit;

use super::parse::Hot;
use crate::http::auth::{Access, Pass};

#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Among the connections that the server may have.
    pub(super) place: OwnedSemaphorePermit,
    /// What was read and is not yet a whole head, or not hot.
    pub(super) input: Vec<u8>,
    /// Answers that the client has not taken yet. Nothing is read before.
    pub(super) output: Vec<u8>,
    /// Halves of the head timeout that began since it was last of use.
    pub(super) ticks: u32,
    /// None of its requests is answered yet.
    pub(super) is_new: bool,
    /// Some of its requests were read and are not done yet.
    pub(super) has_requests: bool,
    /// A task answers some of its requests.
    pub(super) is_busy: bool,
    /// It has brought a request that is not hot.
    pub(super) is_other: bool,
    /// The client sends no more, or has gone.
    pub(super) is_ending: bool,
    /// What the token that it sent last allows.
    pub(super) pass: Option<Box<Pass>>,
    /// How often it was read since the server stops.
    pub(super) last_reads: u32,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            place,
            input: Vec::new(),
            output: Vec::new(),
            ticks: 0,
            is_new: true,
            has_requests: false,
            is_busy: false,
            is_other: false,
            is_ending: false,
            pass: None,
            last_reads: 0,
        }
    }

    /// Whether a request may do what it asks for.
    pub(super) fn may(&mut self, access: &Access, hot: Hot, authorization: Option<&[u8]>) -> bool {
        let need = Hot::ROUTES[hot.place()].need();
        access.check(authorization, need, &mut self.pass).is_ok()
    }

    /// Whether answers are still to be sent.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_busy || !self.output.is_empty()
    }

    /// Whether nothing is expected of the client.
    pub(super) fn is_idle(&self) -> bool {
        self.input.is_empty() && self.output.is_empty()
    }

    /// Sends answers; what the client does not take is kept. O(length).
    ///
    /// # Errors
    ///
    /// If the client has gone.
    pub(super) fn send(&mut self, answers: &[u8]) -> Result<(), Errno> {
        if !self.output.is_empty() {
            self.output.extend_from_slice(answers);
            return Ok(());
        }
        let sent = send_some(&self.stream, answers)?;
        self.output.extend_from_slice(&answers[sent..]);
        Ok(())
    }

    /// Sends what was kept.
    ///
    /// # Errors
    ///
    /// If the client has gone.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = send_some(&self.stream, &self.output)?;
        self.output.drain(..sent);
        if self.output.is_empty() {
            self.ticks = 0;
            // A client that was slow once shall not hold memory for ever.
            self.output = Vec::new();
        }
        Ok(())
    }
}

fn send_some(stream: &TcpStream, bytes: &[u8]) -> Result<usize, Errno> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match send(stream, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        result => result,
    }
}
