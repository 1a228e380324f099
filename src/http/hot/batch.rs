//! Requests that were read and not executed yet.

use super::request::Hot;
use crate::http::api::Turn;
use crate::http::audit::Entry;
use crate::http::route::Route;
use crate::pool::PoolId;
use crate::store::{Answer, Operation};

/// Requests that were read and not executed yet.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    /// The requests' operations, each with its pool.
    pub(super) operations: Vec<(PoolId, Operation<'static>)>,
    pub(super) answers: Vec<Answer>,
}

/// What belongs to a request beside its operation.
pub(super) struct Request {
    pub(super) connection: usize,
    pub(super) route: Route,
    /// Its turn to wait for a key, if it may wait.
    pub(super) turn: Option<Turn>,
    /// Its entry in the audit log, if it has one.
    pub(super) entry: Option<Box<Entry>>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn push(
        &mut self,
        connection: usize,
        hot: Hot,
        turn: Option<Turn>,
        entry: Option<Box<Entry>>,
    ) {
        self.requests.push(Request { connection, route: hot.route, turn, entry });
        self.operations.push((hot.pool, hot.operation));
    }

    /// Whether a request is the last one of its connection.
    pub(super) fn is_last(&self, n: usize) -> bool {
        let connection = self.requests[n].connection;
        self.requests.get(n + 1).is_none_or(|next| next.connection != connection)
    }

    /// Removes all, and keeps the memory for the next ones.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.operations.clear();
        self.answers.clear();
    }
}
