//! The state of one connection of the hot path.

use std::net::TcpStream;
use std::time::Instant;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::fields::Fields;
use super::last_input::{LINGER_MAX, LastInput};
use super::mailbox::Transfer;
use super::pending::{Pending, PendingAnswer, Waiting};
use super::session::{self, Came, Session, read_plain, read_sealed, write_sealed};
use crate::http::api::{Place, Turn, has_hung_up};
use crate::http::audit::Entry;
use crate::http::auth::{Access, CachedRole};
use crate::http::route::Route;
use crate::http::wire::{AnswerPermit, Budget, HeadPermit};
use crate::key::Holder;
use crate::key::Lease;
use crate::store::Ticket;

#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Its TLS. Then encrypted answers wait in it, and not in `output`.
    pub(super) session: Option<Session>,
    /// Tells it from others that have had the same place in the loop.
    pub(super) number: u64,
    /// Counts towards the limits on connections.
    pub(super) place: Place,
    /// What was read but is not a whole head yet, or not hot.
    pub(super) input: Vec<u8>,
    /// The share of the budget that a long beginning of a head takes.
    pub(super) head_permit: Option<HeadPermit>,
    /// Answers that the client has not received yet. Until it has, nothing is read.
    pub(super) output: Vec<u8>,
    /// How many bytes of its answers are parked, and not in `output`.
    pub(super) parked: usize,
    /// It is not read until its parked answers have left, or until the loop has room for more of them.
    pub(super) is_held: bool,
    /// The share of the budget that its answers have, if they are large.
    output_permit: AnswerPermit,
    /// The first tick after it last made progress. To read the clock at each tick is enough.
    pub(super) idle_since: Option<Instant>,
    /// None of its requests is answered yet.
    pub(super) is_new: bool,
    /// Some of its requests were read and not executed yet.
    pub(super) has_requests: bool,
    /// The store completes some of its requests later. Until it has, nothing is read.
    pub(super) pending: Option<Box<Pending>>,
    /// More may have come than was read, or than was looked at.
    pub(super) has_more: bool,
    /// It was told that it is closed after the answers that were written.
    pub(super) is_closing: bool,
    /// It has brought a request that is not hot, so it leaves the hot path.
    pub(super) is_cold: bool,
    /// The client sends no more, or has gone.
    pub(super) is_ending: bool,
    /// The client has gone: it does not receive answers either.
    pub(super) has_gone: bool,
    /// The token that it sent last.
    pub(super) cached_role: Option<Box<CachedRole>>,
    /// What is still read, once the server drains.
    pub(super) last_input: Option<Box<LastInput>>,
}

impl Connection {
    pub(super) fn new(transfer: Transfer, number: u64) -> Self {
        let Transfer { stream, mut session, place, read, is_new, .. } = transfer;
        if let Some(session) = &mut session {
            session.set_buffer_limit(None);
        }
        Self {
            stream,
            session,
            number,
            place,
            has_more: !read.is_empty(),
            input: read,
            head_permit: None,
            output: Vec::new(),
            parked: 0,
            is_held: false,
            output_permit: AnswerPermit::default(),
            idle_since: None,
            is_new,
            has_requests: false,
            pending: None,
            is_closing: false,
            is_cold: false,
            is_ending: false,
            has_gone: false,
            cached_role: None,
            last_input: None,
        }
    }

    /// Whether its token allows a request for `route`.
    pub(super) fn may(&mut self, access: &Access, route: Route, fields: &Fields<'_>) -> bool {
        let pool = fields.pool.or(route.pool());
        access.check(fields.authorization, route.need(), pool, &mut self.cached_role).is_ok()
    }

    /// Who holds the leases of a request, as its token says.
    pub(super) fn holder(&self, access: &Access, fields: &Fields<'_>) -> Option<Holder> {
        let token = access.token(fields.authorization, self.cached_role.as_deref())?;
        Some(token.holder.clone())
    }

    /// Whether an answer can be its last one: nothing that has come is left to answer. O(1).
    pub(super) fn can_close(&self) -> bool {
        let left = match &self.last_input {
            Some(last) => last.left,
            None => ioctl_fionread(&self.stream).unwrap_or(0),
        };
        left == 0 && !self.has_more && self.input.is_empty() && !self.is_cold
    }

    /// What is still read, now that the server stops: what had come by the first call. O(1).
    pub(super) fn last_input(&mut self) -> &mut LastInput {
        self.last_input.get_or_insert_with(|| Box::new(LastInput::of(&self.stream)))
    }

    /// Since when all its answers are sent, if none follows.
    pub(super) fn finished_at(&self) -> Option<Instant> {
        self.last_input.as_ref()?.finished_at
    }

    /// Whether its client has had time enough to close its half.
    pub(super) fn has_lingered(&self, now: Instant) -> bool {
        self.finished_at().is_some_and(|at| now.saturating_duration_since(at) >= LINGER_MAX)
    }

    /// Whether answers have still to be sent.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_busy() || self.has_output() || self.has_parked()
    }

    /// Whether answers wait until what they rest on is durable.
    pub(super) fn has_parked(&self) -> bool {
        self.parked > 0
    }

    /// Whether it waits for the store, and not for its client.
    pub(super) fn waits_for_store(&self) -> bool {
        self.is_busy() || self.has_parked() || self.is_held
    }

    /// Whether answers wait for the client to take them.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
            || self.session.as_ref().is_some_and(|session| session.wants_write())
    }

    /// Whether the store completes some of its requests later.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether only one request is not answered yet.
    pub(super) fn has_one_pending(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.len() == 1)
    }

    /// Notes that a request waits for its operation. O(1).
    pub(super) fn wait_for(
        &mut self,
        waiting: Waiting,
        turn: Option<Turn>,
        entry: Option<Box<Entry>>,
    ) {
        self.pending.get_or_insert_default().push_waiting(waiting, turn, entry);
    }

    /// Takes the entry in the audit log of the request that waits for an operation. O(p) for p pipelined requests.
    pub(super) fn take_entry(&mut self, token: u64) -> Option<Box<Entry>> {
        self.pending.as_mut()?.take_entry(token)
    }

    /// The request that waits for an operation. O(p) for p pipelined requests.
    pub(super) fn waits_for(&self, token: u64) -> Option<Waiting> {
        self.pending.as_ref()?.request(token)
    }

    /// The tickets of leases that wait for a key. O(p) for p pipelined requests.
    pub(super) fn waiting_leases(&self) -> impl Iterator<Item = Ticket> {
        self.pending.iter().flat_map(|pending| pending.waiting_leases())
    }

    /// Whether the client has gone, or has closed its half and so does not wait for a key any more.
    pub(super) fn has_hung_up(&self) -> bool {
        has_hung_up(&self.stream)
    }

    /// Puts an answer in its place, and adds the answers that can be sent now to `output`. Returns the leases
    /// in these answers. O(p) for p pipelined requests.
    pub(super) fn completed(
        &mut self,
        token: u64,
        answer: PendingAnswer,
        output: &mut Vec<u8>,
    ) -> Vec<Lease> {
        // It was not idle while it waited.
        self.idle_since = None;
        let Some(pending) = &mut self.pending else { return Vec::new() };
        pending.put(token, answer);
        let leases = pending.take_ready(output);
        if pending.is_empty() {
            self.pending = None;
        }
        leases
    }

    /// Whether no head has begun, and the client has received its answers.
    pub(super) fn is_idle(&self) -> bool {
        self.input.is_empty() && !self.has_output()
    }

    /// Reads once, behind what is in `input` already. `sealed` is room for what is encrypted. O(length).
    ///
    /// # Errors
    ///
    /// As `read(2)`.
    pub(super) fn read(&mut self, sealed: &mut [u8], input: &mut [u8]) -> Result<Came, Errno> {
        let came = match &mut self.session {
            None => read_plain(&self.stream, input),
            Some(session) => read_sealed(session, &self.stream, sealed, input),
        };
        self.has_more = came.as_ref().is_ok_and(|came| came.has_more);
        came
    }

    /// Tells the client that nothing more is sent. O(1).
    pub(super) fn end_output(&mut self) {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            // A client that has gone needs no goodbye.
            let _ = session::send(session, &self.stream);
        }
        let _ = shutdown(&self.stream, Shutdown::Write);
    }

    /// Sends answers, and keeps what the socket does not take yet. If all answers that are kept are large and get no share of
    /// the budget, nothing is sent: so the client has received none of these. O(length).
    ///
    /// # Errors
    ///
    /// If the client has gone, or there is no memory for the answers.
    pub(super) fn send(&mut self, answers: &[u8], budget: &Budget) -> Result<(), Errno> {
        self.reserve(answers.len(), budget)?;
        self.send_reserved(answers)
    }

    /// Takes the share of the budget for all answers that are kept and so many bytes more. O(1).
    ///
    /// # Errors
    ///
    /// If there is no memory for the answers.
    pub(super) fn reserve(&mut self, more: usize, budget: &Budget) -> Result<(), Errno> {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.bytes());
        let all = self.output.len() + self.parked + pending + more;
        self.output_permit = budget.written(all).map_err(|_| Errno::NOMEM)?;
        Ok(())
    }

    /// Sends answers that have their share of the budget. O(length).
    ///
    /// # Errors
    ///
    /// If the client has gone.
    pub(super) fn send_reserved(&mut self, answers: &[u8]) -> Result<(), Errno> {
        self.send_or_keep(answers)?;
        self.free_share();
        Ok(())
    }

    /// Gives back the share of the budget, unless answers are left.
    fn free_share(&mut self) {
        if !self.is_unfinished() {
            self.output_permit = AnswerPermit::default();
        }
    }

    fn send_or_keep(&mut self, answers: &[u8]) -> Result<(), Errno> {
        if let Some(session) = &mut self.session {
            return write_sealed(session, &self.stream, answers);
        }
        if !self.output.is_empty() {
            self.output.extend_from_slice(answers);
            return Ok(());
        }
        let sent = send_some(&self.stream, answers)?;
        self.output.extend_from_slice(&answers[sent..]);
        Ok(())
    }

    /// Sends what was kept. O(length).
    ///
    /// # Errors
    ///
    /// If the client has gone.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        if let Some(session) = &mut self.session {
            if session.wants_write() {
                session::send(session, &self.stream)?;
                self.idle_since = None;
                self.free_share();
            }
            return Ok(());
        }
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = send_some(&self.stream, &self.output)?;
        self.output.drain(..sent);
        if self.output.is_empty() {
            self.idle_since = None;
            // A client that was slow once must not keep memory for ever.
            self.output = Vec::new();
            self.free_share();
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
