//! Executing what was read as one batch, and sending the answers.

use std::mem::take;
use std::sync::Arc;

use rustix::event::epoll;

use super::connection::Connection;
use super::event_loop::Loop;
use super::mailbox::Transfer;
use super::pending::PendingAnswer;
use crate::key::Lease;
use crate::store::{Answer, Outcome, Store, lease_of};

impl<S: Store> Loop<S> {
    /// Does what was read, and sends the answers of each connection in the order of its requests.
    pub(super) fn answer(&mut self) {
        if self.batch.requests.is_empty() {
            return;
        }
        let first_token = self.later.first_token;
        self.store.execute(&self.batch.operations, &mut self.batch.answers, &self.later);
        self.later.first_token += self.batch.operations.len() as u64;
        self.batch.operations.clear();
        let (mut requests, mut answers) =
            (take(&mut self.batch.requests), take(&mut self.batch.answers));
        for (n, answer) in answers.drain(..).enumerate() {
            let (index, request) = requests[n];
            let connection = &mut self.connections[index];
            match answer {
                Answer::Now(outcome) => {
                    let begin = self.answers.output.len();
                    self.answers.add(&*self.store, request, &outcome);
                    if let Some(pending) = &mut connection.pending {
                        let bytes = self.answers.output.split_off(begin);
                        pending.push_answer(PendingAnswer::new(bytes, &outcome));
                    }
                }
                Answer::Later(_) => {
                    let token = first_token + n as u64;
                    self.batch.waiting.insert(token, index);
                    connection.wait_for(token, request);
                }
            }
            if requests.get(n + 1).is_none_or(|(next, _)| *next != index) {
                self.send(index);
            }
        }
        requests.clear();
        (self.batch.requests, self.batch.answers) = (requests, answers);
    }

    /// Goes on with the connection that waited for an operation.
    pub(super) fn complete(&mut self, generation: u64, token: u64, outcome: &Outcome) {
        let is_ours = generation == self.generation;
        let index = is_ours.then(|| self.batch.waiting.remove(&token)).flatten();
        let connection = index.and_then(|index| Some((index, self.connections.get_mut(index)?)));
        let waiting = connection.and_then(|(index, connection)| {
            let (request, began) = connection.waits_for(token)?;
            Some((index, connection, request, began))
        });
        let Some((index, connection, request, began)) = waiting else {
            // Its client has gone.
            return self.give_back(lease_of(outcome).into_iter().collect());
        };
        self.answers.add(&*self.store, request, outcome);
        self.answers.count(&self.tally, began.elapsed());
        let answer = PendingAnswer::new(take(&mut self.answers.output), outcome);
        let leases = connection.completed(token, answer, &mut self.answers.output);
        if !self.send(index) {
            return self.give_back(leases);
        }
        // More may have come meanwhile.
        self.again.push(index);
    }

    /// Drops a connection whose client has gone, and takes back the leases that it has not heard of.
    pub(super) fn lose(&mut self, index: usize) {
        let pending = self.connections.remove(index).pending;
        self.give_back(pending.map_or_else(Vec::new, |pending| pending.leases()));
    }

    fn give_back(&self, leases: Vec<Lease>) {
        if !leases.is_empty() {
            self.store.give_back(leases);
        }
    }

    /// Sends the answers that were written to a connection. False if the client has gone.
    fn send(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        connection.has_requests = false;
        connection.is_new = false;
        let is_sent = connection.send(&self.answers.output);
        self.answers.output.clear();
        if is_sent.is_err() {
            self.lose(index);
            return false;
        }
        if connection.is_busy() {
            return true;
        }
        if self.is_stopping {
            self.again.push(index);
        }
        self.hand_over(index);
        true
    }

    /// Gives a connection away if it is not hot and all answers were sent.
    pub(super) fn hand_over(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !connection.is_cold || connection.is_unfinished() {
            return;
        }
        let Connection { stream, input: read, is_new, permit, .. } = self.connections.remove(index);
        // If it fails it is closed below, and the server is ending.
        let _ = epoll::delete(&self.poll, &stream);
        let home = Some(Arc::clone(&self.mailbox));
        let _ = self.cold.send(Transfer { stream, read, is_new, permit, home });
    }
}
