//! What was read and is not yet done.

use std::collections::HashMap;

use super::request::Hot;
use crate::http::route::Route;
use crate::store::{Answer, Operation};

/// Requests that were read and are not yet done, and what the store has not completed yet.
#[derive(Default)]
pub(super) struct Batch {
    /// The connections that requests came by, and their routes.
    pub(super) requests: Vec<(usize, Route)>,
    /// What they ask the store for.
    pub(super) operations: Vec<Operation<'static>>,
    pub(super) answers: Vec<Answer>,
    /// The connections that wait for operations, by their tokens.
    pub(super) waiting: HashMap<u64, usize>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn push(&mut self, connection: usize, request: Hot) {
        self.requests.push((connection, request.route));
        self.operations.push(request.operation);
    }
}
