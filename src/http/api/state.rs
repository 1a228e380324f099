//! What the handlers have in common.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::sync::watch;

use super::client::Client;
use super::limits::Limits;
use crate::error::Error;
use crate::http::wire::{Budget, Fields, Problem, json};
use crate::store::Store;

/// What handlers work with.
pub(in crate::http) struct Api<S> {
    pub(in crate::http) store: Arc<S>,
    pub(in crate::http) limits: Limits,
    /// Changes when the server stops; for operators, when all requests are finished.
    pub(in crate::http) stopped: watch::Receiver<()>,
    pub(in crate::http) budget: Budget,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        let (store, stopped) = (Arc::clone(&self.store), self.stopped.clone());
        Self { store, limits: self.limits, stopped, budget: self.budget.clone() }
    }
}

impl<S> Api<S> {
    /// What `lease` ends with, unless the server stops before, or the client hangs up: nobody waits
    /// for a key then.
    pub(super) async fn while_wanted<T>(
        &self,
        client: &Client,
        lease: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Problem> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            result = lease => Ok(result),
            _ = stopped.changed() => Err(Problem::Stopping),
            () = client.gone() => Ok(Err(Error::Exhausted)),
        }
    }
}

/// An answer that tells of a key.
pub(super) fn answer<S: Store>(
    api: &Api<S>,
    status: StatusCode,
    fields: &Fields,
    body: impl Into<Body>,
) -> Response {
    let mut response = json(status, body);
    fields.each(&*api.store, |name, value| {
        let value = HeaderValue::from_bytes(value).expect("digits and punctuation");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    });
    response
}
