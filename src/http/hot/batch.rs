//! Requests that were read and not executed yet.

use super::request::Hot;
use crate::http::route::Route;
use crate::store::{Answer, Operation};

/// Requests that were read and not executed yet.
#[derive(Default)]
pub(super) struct Batch {
    /// The requests' connections and routes.
    pub(super) requests: Vec<(usize, Route)>,
    /// The requests' operations.
    pub(super) operations: Vec<Operation<'static>>,
    pub(super) answers: Vec<Answer>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn push(&mut self, connection: usize, request: Hot) {
        self.requests.push((connection, request.route));
        self.operations.push(request.operation);
    }

    /// Removes all, and keeps the memory for the next ones.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.operations.clear();
        self.answers.clear();
    }
}
