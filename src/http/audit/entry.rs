//! A request on its way to a line.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ids::{Sent, Trace};
use crate::http::route::Route;
use crate::key::{Fence, KeyId, Leased};
use crate::pool::PoolName;
use crate::store::{Operation, Outcome, Release, Reply};

/// The keys that a request is about. An answer of the router carries it as an extension.
#[derive(Clone, Copy)]
pub(in crate::http) enum Subject {
    One(KeyId),
    Many(usize),
}

/// What is known of a request. It begins with the request, and learns more until the answer is written.
pub(in crate::http) struct Entry {
    request_id: Box<str>,
    pub(super) trace: Option<Trace>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) route: Route,
    /// The name of the token that came with it.
    pub(in crate::http) token: Option<Arc<str>>,
    /// The pool that the path names.
    pub(in crate::http) pool: Option<PoolName>,
    pub(in crate::http) subject: Option<Subject>,
    /// The generation of the lease that was given, or else of the one that the request names.
    pub(in crate::http) generation: Option<u64>,
}

impl Entry {
    /// The entry of a request from `peer` with these ids. O(length of the ids).
    pub(in crate::http) fn new(
        route: Route,
        sent: Sent<'_>,
        peer: Option<SocketAddr>,
    ) -> Box<Self> {
        let (request_id, trace) = (sent.request_id(), sent.trace());
        let (token, pool, subject, generation) = (None, None, None, None);
        Box::new(Self { request_id, trace, peer, route, token, pool, subject, generation })
    }

    /// What the answer carries as `X-Request-Id`.
    pub(in crate::http) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Notes the key and the lease that an operation names. O(1).
    pub(in crate::http) fn set_operation(&mut self, operation: &Operation<'_>) {
        self.subject = operation.id().map(|id| Subject::One(*id));
        let fence = match operation {
            Operation::Release(_, Release { fence, .. }) | Operation::Delete(_, fence) => fence,
            Operation::Renew(_, renewal) => &renewal.fence,
            _ => return,
        };
        if let Fence::One(generation) = fence {
            self.generation = Some(*generation);
        }
    }

    /// Notes what an operation has given. O(1).
    pub(in crate::http) fn set_outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(
                Reply::Leased(Leased { lease, .. })
                | Reply::LeasedLate(Leased { lease, .. })
                | Reply::Renewed(lease),
            ) => {
                self.subject = Some(Subject::One(lease.id));
                self.generation = Some(lease.generation);
            }
            Ok(Reply::Created(created)) => self.subject = Some(Subject::One(created.ids[0])),
            _ => {}
        }
    }

    /// Whether an answer with this status has a line: that of a request that changes or gives something, or one
    /// that was refused for its token or its host.
    pub(in crate::http) fn is_logged(&self, status: u16) -> bool {
        self.route.is_audited() || matches!(status, 401 | 403 | 421)
    }
}
