//! Answers that were written, and wait until what they rest on is durable.

use std::collections::VecDeque;
use std::mem::swap;
use std::task::Waker;
use std::time::Instant;

use super::answers::Answers;
use super::counts::Counts;
use crate::key::Lease;
use crate::store::{CommitPoint, Store};

/// A connection with so many parked bytes is not read, so that a client that pipelines without end costs no more.
pub(super) const OF_ONE_MAX: usize = 64 * 1024;
/// While so many bytes are parked, no connection of the loop is read.
const ALL_MAX: usize = 8 * 1024 * 1024;
/// How many groups that were sent keep their memory for the next ones: 4,096 requests outstanding make some 64 groups, and
/// new memory for each commit took 4 % of the processor.
const SPARES_MAX: usize = 64;
/// How many bytes of answers each of these keeps room for.
const SPARE_BYTES: usize = 16 * 1024;
/// For how many connections, and for how many leases.
const SPARE_PARCELS: usize = 256;

/// The parked answers of a loop, and connections that are not read meanwhile.
#[derive(Default)]
pub(super) struct Parked {
    /// In the order in which they leave. The point of none is before that of an earlier one.
    groups: VecDeque<Group>,
    /// All their bytes.
    bytes: usize,
    /// The point at which the store wakes the loop.
    awaited: Option<CommitPoint>,
    /// Connections that are not read until less is parked, though none of their own answers is.
    pub(super) held: Vec<usize>,
    spares: Vec<Group>,
}

/// Answers that leave together.
#[derive(Default)]
pub(super) struct Group {
    /// What must be durable before they leave.
    point: CommitPoint,
    /// When the server began with their requests.
    pub(super) began: Option<Instant>,
    pub(super) counts: Counts,
    bytes: Vec<u8>,
    leases: Vec<Lease>,
    parcels: Vec<Parcel>,
}

/// The answers of a group that go to one connection.
#[derive(Clone, Copy)]
pub(super) struct Parcel {
    pub(super) connection: usize,
    /// The number of the connection: another one may have its place by then.
    pub(super) number: u64,
    /// Whether a lease in it was waited for.
    pub(super) has_waited: bool,
    /// Where its bytes end, in those of the group.
    end: usize,
    /// Where its leases end, in those of the group.
    leases_end: usize,
}

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether no connection may be read.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= ALL_MAX
    }

    /// Whether connections that are held may be read again. Not before half of the room is free: each look at them costs.
    pub(super) fn has_room_again(&self) -> bool {
        self.bytes < ALL_MAX / 2
    }

    /// The point before which no later answer may leave, either.
    pub(super) fn last_point(&self) -> Option<CommitPoint> {
        self.groups.back().map(|group| group.point)
    }

    /// An empty group.
    pub(super) fn begin(&mut self, point: CommitPoint, began: Instant) -> Group {
        let spare = self.spares.pop().unwrap_or_default();
        Group { point, began: Some(began), ..spare }
    }

    /// Parks a group, with what was written for it. O(1).
    pub(super) fn add(&mut self, mut group: Group, answers: &mut Answers) {
        if group.parcels.is_empty() {
            return self.recycle(group);
        }
        swap(&mut group.bytes, &mut answers.output);
        swap(&mut group.counts, &mut answers.counts);
        self.bytes += group.bytes.len();
        self.groups.push_back(group);
    }

    /// The next group that may leave. O(1).
    pub(super) fn take_committed(&mut self, store: &impl Store) -> Option<Group> {
        let group = self.groups.pop_front_if(|group| store.is_committed(group.point))?;
        self.bytes -= group.bytes.len();
        Some(group)
    }

    /// Keeps the memory of a group that has left. O(1).
    pub(super) fn recycle(&mut self, mut group: Group) {
        group.bytes.clear();
        group.leases.clear();
        group.parcels.clear();
        if self.spares.len() < SPARES_MAX {
            group.bytes.shrink_to(SPARE_BYTES);
            group.leases.shrink_to(SPARE_PARCELS);
            group.parcels.shrink_to(SPARE_PARCELS);
            self.spares.push(group);
        }
    }

    /// Lets the store wake the loop when the next group may leave. O(1).
    pub(super) fn await_commit(&mut self, store: &impl Store, waker: &Waker) {
        let next = self.groups.front().map(|group| group.point);
        if let Some(point) = next.filter(|_| next != self.awaited) {
            store.wake_when_committed(point, waker);
            self.awaited = next;
        }
    }

    /// Drops all answers, and returns the leases in them.
    pub(super) fn give_up(&mut self) -> Vec<Lease> {
        self.bytes = 0;
        self.groups.drain(..).flat_map(|group| group.leases).collect()
    }
}

impl Group {
    /// How many bytes its parcels have.
    pub(super) fn len(&self) -> usize {
        self.parcels.last().map_or(0, |parcel| parcel.end)
    }

    /// Adds a parcel for a connection. Its bytes are what was written behind those of the others, up to `end`.
    pub(super) fn push(
        &mut self,
        (connection, number): (usize, u64),
        end: usize,
        leases: impl Iterator<Item = Lease>,
        has_waited: bool,
    ) {
        self.leases.extend(leases);
        let leases_end = self.leases.len();
        self.parcels.push(Parcel { connection, number, has_waited, end, leases_end });
    }

    /// Its parcels, each with its bytes and its leases.
    pub(super) fn parcels(&self) -> impl Iterator<Item = (Parcel, &[u8], &[Lease])> {
        let (mut begin, mut first) = (0, 0);
        self.parcels.iter().map(move |parcel| {
            let (bytes, leases) =
                (&self.bytes[begin..parcel.end], &self.leases[first..parcel.leases_end]);
            (begin, first) = (parcel.end, parcel.leases_end);
            (*parcel, bytes, leases)
        })
    }
}
