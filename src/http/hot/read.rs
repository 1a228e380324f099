//! Reading requests from connections.

use std::time::Instant;

use rustix::io::Errno;

use super::audited::begin;
use super::event_loop::Loop;
use super::parked::OF_ONE_MAX;
use super::parse::{Parsed, parse};
use super::session::Came;
use crate::http::route::Route;
use crate::http::wire::{Problem, Refusal};
use crate::store::Store;

/// How much a client may send in vain once its connection is finished. Then it is reset: a client that never
/// ends must not hold up the stop.
const DROPPED_BYTES_MAX: usize = 4 * 1024 * 1024;

impl<S: Store> Loop<S> {
    /// Reads from a connection once, so that every connection has its turn, and adds its hot requests to the
    /// batch.
    pub(super) fn read(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.is_busy() {
            // Answers before the one that is pending are still sent.
            if connection.has_gone || connection.flush().is_err() {
                self.lose(index);
            } else if connection.is_ending || self.is_stopping {
                self.stop_waiting(index);
            }
            return;
        }
        if connection.has_requests {
            return self.again.push(index);
        }
        if connection.finished_at().is_some() {
            return self.finish(index);
        }
        if connection.has_gone || connection.flush().is_err() {
            return drop(self.connections.remove(index));
        }
        if connection.has_output() || connection.is_cold {
            return self.hand_over(index);
        }
        if connection.parked >= OF_ONE_MAX || self.parked.is_full() {
            return self.hold(index);
        }
        let may_have_more = connection.has_more;
        let has_all = self.is_stopping && connection.last_input().left == 0 && !may_have_more;
        if connection.is_closing || has_all {
            return if connection.has_parked() { self.hold(index) } else { self.finish(index) };
        }
        let held = connection.input.len();
        self.input[..held].copy_from_slice(&connection.input);
        let Came { length, from_socket, has_more } =
            match connection.read(&mut self.sealed, &mut self.input[held..]) {
                Ok(came) if came.length > 0 => came,
                // What came with the connection may have whole requests.
                Ok(_) | Err(Errno::AGAIN) if held > 0 && may_have_more => {
                    Came { length: 0, from_socket: 0, has_more: true }
                }
                Err(Errno::AGAIN) if !self.is_stopping => return,
                Err(Errno::INTR) => {
                    connection.has_more = may_have_more;
                    return self.again.push(index);
                }
                // Its input has ended, but not all its answers have left.
                Ok(_) | Err(Errno::AGAIN) if connection.has_parked() => return self.hold(index),
                _ => return self.close_one(index),
            };
        let length = held + length;
        if let Some(last) = &mut connection.last_input {
            last.left = last.left.saturating_sub(from_socket as u64);
        }
        if has_more || connection.is_ending {
            self.again.push(index);
        }
        let mut input = &self.input[..length];
        let mut pools = self.known_pool.of(&*self.store);
        loop {
            match parse(input, &mut pools, self.answers.is_audited()) {
                Parsed::Hot(mut request, length, fields)
                    if self.known_host.admits(&self.access, fields.host)
                        && connection.may(&self.access, request.route, &fields) =>
                {
                    if request.route.leases()
                        && let Some(holder) = connection.holder(&self.access, &fields)
                    {
                        request.set_holder(&holder);
                    }
                    let may_wait = request.route.may_wait();
                    let turn = may_wait.then(|| connection.place.turns().take());
                    // The router refuses to wait where too many do.
                    if matches!(turn, Some(None)) {
                        connection.is_cold = true;
                        break;
                    }
                    let entry = fields
                        .is_audited
                        .then(|| begin(&self.access, connection, &request, &fields, &*self.store));
                    self.batch.push(index, request, turn.flatten(), entry.flatten());
                    connection.has_requests = true;
                    input = &input[length..];
                }
                Parsed::Partial => break,
                // The router answers refusals, too.
                Parsed::Hot(..) | Parsed::Cold => {
                    connection.is_cold = true;
                    break;
                }
            }
        }
        // A head that begins has the whole head timeout.
        if held == 0 || connection.has_requests {
            connection.idle_since = None;
        }
        // Usually nothing is left, so an idle connection holds no memory for input.
        connection.head_permit = None;
        match self.budget.head(input.len()) {
            Ok(permit) => {
                connection.head_permit = permit;
                connection.input = input.to_vec();
            }
            // The answers before it close the connection, if there are any.
            Err(_) if connection.has_requests => connection.is_closing = true,
            Err(busy) => return self.refuse(index, &busy),
        }
        if !connection.has_requests {
            self.hand_over(index);
        }
    }

    /// Closes a connection that has nothing to answer.
    fn close_one(&mut self, index: usize) {
        self.connections[index].end_output();
        self.connections.remove(index);
    }

    /// Refuses a request that cannot be read, and closes its connection.
    fn refuse(&mut self, index: usize, problem: &Problem) {
        // Answers to others are in the batch, and not written yet.
        self.connections[index].is_closing = true;
        self.answers.closes = true;
        self.answers.refuse(Route::Unknown, None, &Refusal::from(problem));
        // It rests on nothing, but it comes after the other answers.
        let is_first = !self.connections[index].has_parked();
        let point = if is_first { None } else { self.parked.last_point() };
        self.send_at(point, index, Instant::now(), &[], false);
    }

    /// Closes a connection whose requests are answered, once the server drains. If it was closed while its client
    /// still sends, the system would reset it, and drop answers that the client has not received yet. So one
    /// that brought requests lingers: what it goes on to send is read and dropped, until the client closes its
    /// half or a limit is reached.
    fn finish(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.finished_at().is_none() {
            connection.end_output();
        }
        let read = rustix::io::read(&connection.stream, &mut self.sealed[..]);
        let is_closing = connection.is_closing;
        let last = connection.last_input();
        last.lingers |= is_closing;
        last.finished_at.get_or_insert_with(Instant::now);
        match read {
            Ok(length) if length > 0 && last.dropped < DROPPED_BYTES_MAX => {
                last.dropped += length;
                last.lingers = true;
                self.again.push(index);
            }
            Err(Errno::AGAIN | Errno::INTR) if last.lingers => {}
            _ => drop(self.connections.remove(index)),
        }
    }
}
