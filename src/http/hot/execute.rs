//! Executing the requests that were read as one batch, and sending the answers.

use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll;

use super::batch::Request;
use super::connection::Connection;
use super::event_loop::Loop;
use super::mailbox::Transfer;
use super::pending::{PendingAnswer, Waiting};
use crate::error::Error;
use crate::http::wire::{Problem, Refusal};
use crate::key::Lease;
use crate::store::{Answer, Outcome, Reply, Store, lease_of};

impl<S: Store> Loop<S> {
    /// Executes the batch, and sends the answers of each connection in the order of its requests.
    pub(super) fn answer(&mut self) {
        if self.batch.len() == 0 {
            return;
        }
        let first_token = self.later.first_token;
        self.store.execute(&self.batch.operations, &mut self.batch.answers, &self.later);
        self.later.first_token += self.batch.operations.len() as u64;
        let mut batch = take(&mut self.batch);
        let point = self.commit_point();
        let mut group = point.map(|point| self.parked.begin(point, self.turn_began));
        // The first answer to the same connection, and the first one that is not sent at once.
        let (mut first, mut first_held) = (0, None);
        for n in 0..batch.len() {
            let is_last = batch.is_last(n);
            let Request { connection: index, route, ref mut turn, ref mut entry } =
                batch.requests[n];
            let (pool, ref operation) = batch.operations[n];
            let id = operation.id();
            let connection = &mut self.connections[index];
            match &batch.answers[n] {
                Answer::Now(outcome) => {
                    let begin = self.answers.output.len();
                    if self.is_draining && is_last {
                        connection.is_closing |= !connection.is_busy() && connection.can_close();
                    }
                    self.answers.closes = connection.is_closing && is_last;
                    self.answers.entry = entry.take();
                    self.answers.add(&*self.store, route, pool, id, outcome);
                    if let Some(pending) = &mut connection.pending {
                        let bytes = self.answers.output.split_off(begin);
                        pending.push_answer(PendingAnswer::new(bytes, outcome));
                    }
                }
                Answer::Later(ticket) => {
                    first_held.get_or_insert(n);
                    let (ticket, token) = (*ticket, first_token + n as u64);
                    self.waiting.insert(token, index);
                    let (id, began) = (id.copied(), Instant::now());
                    let waiting = Waiting { token, ticket, route, id, began };
                    connection.wait_for(waiting, turn.take(), entry.take());
                    if route.may_wait() && (connection.is_ending || self.is_stopping) {
                        self.store.cancel(ticket);
                    }
                }
            }
            if is_last {
                let unsent = &batch.answers[first..first_held.unwrap_or(n + 1)];
                let leases = unsent.iter().filter_map(lease_in);
                let is_sent = match &mut group {
                    None => self.send(index),
                    Some(group) => self.park(index, group, leases.clone(), false),
                };
                if !is_sent {
                    self.give_back(leases.collect());
                }
                (first, first_held) = (n + 1, None);
            }
        }
        if let Some(group) = group {
            self.parked.add(group, &mut self.answers);
        }
        batch.clear();
        self.batch = batch;
    }

    /// Answers the request that waited for an operation.
    pub(super) fn complete(&mut self, generation: u64, token: u64, outcome: &Outcome) {
        let is_ours = generation == self.generation;
        let index = is_ours.then(|| self.waiting.remove(&token)).flatten();
        let connection = index.and_then(|index| Some((index, self.connections.get_mut(index)?)));
        let waiting = connection.and_then(|(index, connection)| {
            Some((index, connection.waits_for(token)?, connection))
        });
        let Some((index, Waiting { ticket, route, id, began, .. }, connection)) = waiting else {
            // Its connection is gone.
            return self.give_back(lease_of(outcome).into_iter().collect());
        };
        let mut outcome = outcome;
        let has_waited = matches!(outcome, Ok(Reply::LeasedLate(_)));
        if has_waited && connection.has_hung_up() {
            // The client hung up before it got the key, but epoll has not reported it yet.
            self.store.give_back(lease_of(outcome).into_iter().collect());
            outcome = &Err(Error::EXHAUSTED);
        }
        if self.is_draining {
            connection.is_closing |= connection.has_one_pending() && connection.can_close();
        }
        self.answers.closes = connection.is_closing && connection.has_one_pending();
        self.answers.entry = connection.take_entry(token);
        if self.is_stopping && route.may_wait() && matches!(outcome, Err(Error::Exhausted { .. })) {
            self.answers.refuse(route, None, &Refusal::from(&Problem::Stopping));
        } else {
            self.answers.add(&*self.store, route, ticket.pool, id.as_ref(), outcome);
        }
        let answer = PendingAnswer::new(take(&mut self.answers.output), outcome);
        let leases = connection.completed(token, answer, &mut self.answers.output);
        // Without an answer that can leave now, there is nothing to wait for.
        let has_answers = !self.answers.output.is_empty();
        let point = if has_answers { self.commit_point() } else { None };
        if point.is_none() {
            self.answers.counts.move_to(&self.tally, began.elapsed());
        }
        // Who gets no key is told so, even behind its hang-up.
        let has_waited = has_waited && !leases.is_empty();
        if !self.send_at(point, index, began, &leases, has_waited) {
            return self.give_back(leases);
        }
        // More input may have come meanwhile.
        self.again.push(index);
    }

    /// Drops a connection whose client has gone. Cancels its leases that wait for a key, and gives back those
    /// in its pending answers.
    pub(super) fn lose(&mut self, index: usize) {
        self.stop_waiting(index);
        let pending = self.connections.remove(index).pending;
        self.give_back(pending.map_or_else(Vec::new, |pending| pending.leases()));
    }

    /// Closes the mailbox and all connections, and gives back the leases in them.
    pub(super) fn close(&mut self) {
        let leases = self.mailbox.close();
        self.give_back(leases);
        self.lose_all();
    }

    /// Loses all connections, whose thread ends or has panicked, and gives back the leases in parked answers.
    pub(super) fn lose_all(&mut self) {
        let leases = self.parked.give_up();
        self.give_back(leases);
        let all: Vec<_> = self.connections.iter().map(|(index, _)| index).collect();
        for index in all {
            self.lose(index);
        }
    }

    /// Cancels the leases of a connection that wait for a key.
    pub(super) fn stop_waiting(&self, index: usize) {
        self.connections[index].waiting_leases().for_each(|ticket| self.store.cancel(ticket));
    }

    pub(super) fn give_back(&self, leases: Vec<Lease>) {
        if !leases.is_empty() {
            self.store.give_back(leases);
        }
    }

    /// Sends the answers that were written. False if the client has gone.
    pub(super) fn send(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        connection.has_requests = false;
        connection.is_new = false;
        let is_sent = connection.send(&self.answers.output, &self.budget);
        self.answers.clear_output();
        if is_sent.is_err() {
            self.lose(index);
            return false;
        }
        self.after_sending(index);
        true
    }

    /// Goes on with a connection whose answers were sent.
    pub(super) fn after_sending(&mut self, index: usize) {
        let connection = &self.connections[index];
        if connection.is_busy() {
            return;
        }
        if self.is_stopping || connection.is_closing {
            self.again.push(index);
        }
        self.hand_over(index);
    }

    /// Hands a connection to hyper if it is not hot any more and all its answers were sent.
    pub(super) fn hand_over(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !connection.is_cold || connection.is_unfinished() {
            return;
        }
        let Connection { stream, session, input: read, is_new, place, .. } =
            self.connections.remove(index);
        // It cannot fail: the socket was added.
        let _ = epoll::delete(&self.poll, &stream);
        let home = Some(Arc::clone(&self.mailbox));
        // It fails only while the server ends. The connection is closed then.
        let _ = self.cold.send(Transfer { stream, session, read, is_new, place, home });
    }
}

/// The lease in an answer, if there is one.
fn lease_in(answer: &Answer) -> Option<Lease> {
    match answer {
        Answer::Now(outcome) => lease_of(outcome),
        Answer::Later(_) => None,
    }
}
