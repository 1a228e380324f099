//! No answer leaves before what it rests on is durable. In a store that says that nothing is missing, all are sent at once;
//! else they are parked, and the loop goes on with other requests.

use std::mem::take;
use std::time::Instant;

use super::event_loop::Loop;
use super::parked::{Group, Parcel};
use crate::key::Lease;
use crate::store::{CommitPoint, Store};

impl<S: Store> Loop<S> {
    /// Before which point no answer may leave that rests on what the store has given by now. `None` if it may leave at once.
    pub(super) fn commit_point(&self) -> Option<CommitPoint> {
        // Also what is durable already waits for its turn.
        self.store.uncommitted().max(self.parked.last_point())
    }

    /// Sends the answers that were written, or parks them until `point`. False if the client has gone.
    pub(super) fn send_at(
        &mut self,
        point: Option<CommitPoint>,
        index: usize,
        began: Instant,
        leases: &[Lease],
        has_waited: bool,
    ) -> bool {
        let Some(point) = point else { return self.send(index) };
        let mut group = self.parked.begin(point, began);
        let is_parked = self.park(index, &mut group, leases.iter().copied(), has_waited);
        self.parked.add(group, &mut self.answers);
        is_parked
    }

    /// Adds what was written behind the answers of a group to it, for a connection. False if there is no memory for it: then
    /// the connection is lost.
    pub(super) fn park(
        &mut self,
        index: usize,
        group: &mut Group,
        leases: impl Iterator<Item = Lease>,
        has_waited: bool,
    ) -> bool {
        let connection = &mut self.connections[index];
        connection.has_requests = false;
        connection.is_new = false;
        let (begin, end) = (group.len(), self.answers.output.len());
        if begin == end {
            // All its answers wait for one that comes later.
            return true;
        }
        if connection.reserve(end - begin, &self.budget).is_err() {
            self.answers.output.truncate(begin);
            self.lose(index);
            return false;
        }
        connection.parked += end - begin;
        group.push((index, connection.number), end, leases, has_waited);
        true
    }

    /// Sends what is durable by now.
    ///
    /// Not while requests are in the batch: a connection of theirs could be lost.
    pub(super) fn send_committed(&mut self) {
        while let Some(mut group) = self.parked.take_committed(&*self.store) {
            for (parcel, bytes, leases) in group.parcels() {
                if !self.deliver(parcel, bytes) {
                    self.give_back(leases.to_vec());
                }
            }
            let elapsed = group.began.take().map(|began| began.elapsed()).unwrap_or_default();
            group.counts.move_to(&self.tally, elapsed);
            self.parked.recycle(group);
        }
        if self.parked.has_room_again() {
            for index in take(&mut self.parked.held) {
                self.resume(index);
            }
        }
    }

    /// Sends answers that were parked. False if the client has gone.
    fn deliver(&mut self, parcel: Parcel, bytes: &[u8]) -> bool {
        let index = parcel.connection;
        let connection = self.connections.get_mut(index);
        let Some(connection) = connection.filter(|found| found.number == parcel.number) else {
            return false;
        };
        connection.parked -= bytes.len();
        // It was not idle while it waited.
        connection.idle_since = None;
        // As when the key came: who has hung up does not wait for it any more.
        let has_hung_up = parcel.has_waited && connection.has_hung_up();
        if has_hung_up || connection.send_reserved(bytes).is_err() {
            self.lose(index);
            return false;
        }
        self.resume(index);
        self.after_sending(index);
        true
    }

    /// Does not read a connection until its answers have left, or until there is room for more.
    pub(super) fn hold(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.is_held && !connection.has_parked() {
            self.parked.held.push(index);
        }
        connection.is_held = true;
    }

    /// Reads a connection again, if it was not read meanwhile.
    fn resume(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if take(&mut connection.is_held) {
            connection.idle_since = None;
            self.again.push(index);
        }
    }
}
