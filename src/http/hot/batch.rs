//! Requests that were read and not executed yet.

use std::collections::HashMap;

use super::request::Hot;
use crate::http::route::Route;
use crate::store::{Answer, Operation};

/// Requests that were read and not executed yet, and operations that the store has not completed yet.
#[derive(Default)]
pub(super) struct Batch {
    /// The requests' connections and routes.
    pub(super) requests: Vec<(usize, Route)>,
    /// The requests' operations.
    pub(super) operations: Vec<Operation<'static>>,
    pub(super) answers: Vec<Answer>,
    /// The connections that wait for operations, by the operations' tokens.
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
