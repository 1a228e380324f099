//! The state and the answers that all handlers share.

use std::mem::take;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::FutureExt;
use tokio::sync::watch;

use super::client::Client;
use crate::error::Error;
use crate::http::audit::Subject;
use crate::http::wire::{Budget, Fields, Problem, json};
use crate::key::Lease;
use crate::pool::PoolId;
use crate::store::{Diagnose, IndexSizes, Store, committed};

/// The state of the handlers.
pub(in crate::http) struct Api<S> {
    pub(in crate::http) store: Arc<S>,
    /// Changes when the server stops. On the address for operators, it changes when all requests are
    /// finished.
    pub(in crate::http) stopped: watch::Receiver<()>,
    pub(in crate::http) budget: Budget,
    /// The diagnostics of the store, if it has any.
    pub(in crate::http) diagnose: Option<Arc<dyn Diagnose>>,
    /// Whether there is an audit log, which wants to know the keys of an answer.
    pub(in crate::http) is_audited: bool,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        let (store, stopped) = (Arc::clone(&self.store), self.stopped.clone());
        let (budget, diagnose) = (self.budget.clone(), self.diagnose.clone());
        Self { store, stopped, budget, diagnose, is_audited: self.is_audited }
    }
}

/// What `lease` ends with, unless the client's connection is reset before: then no key is leased.
pub(super) async fn unless_reset<T>(
    client: &Client,
    lease: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        result = lease => result,
        () = client.reset() => Err(Error::EXHAUSTED),
    }
}

impl<S> Api<S> {
    /// Notes which keys an answer is about, if there is an audit log.
    pub(super) fn note(&self, response: &mut Response, subject: Subject) {
        if self.is_audited {
            response.extensions_mut().insert(subject);
        }
    }

    /// How large the indexes of a pool are, if the store has any. O(s) for s shards.
    pub(in crate::http) fn index_sizes(&self, pool: PoolId) -> Option<IndexSizes> {
        self.diagnose.as_ref()?.index_sizes(pool)
    }

    /// What a lease ended with, once that is durable. `to_leases` tells which ones go back if the client's connection is
    /// reset before.
    pub(super) async fn once_committed<T>(
        &self,
        client: &Client,
        leased: Result<T, Error>,
        to_leases: fn(&T) -> Vec<Lease>,
    ) -> Result<T, Error>
    where
        S: Store,
    {
        let of_client = leased.as_ref().map_or_else(|_| Vec::new(), to_leases);
        let mut given = Given { store: &*self.store, leases: of_client };
        unless_reset(client, committed(&*self.store).map(Ok)).await?;
        given.leases.clear();
        leased
    }

    /// Waits for `lease`, until the server stops or the client hangs up. Then nobody waits for the key any
    /// more. A key that is free at once is leased all the same: the client may have closed only its sending half.
    /// `to_leases` tells which ones go back if the client has hung up before it got them. What `lease` ends with need not be
    /// durable yet.
    ///
    /// # Errors
    ///
    /// [`Problem::Stopping`] if the server stops. If the client hangs up, the result is that no key is free.
    pub(super) async fn while_connected<T>(
        &self,
        client: &Client,
        lease: impl Future<Output = Result<T, Error>>,
        to_leases: fn(&T) -> Vec<Lease>,
    ) -> Result<Result<T, Error>, Problem>
    where
        S: Store,
    {
        let mut lease = pin!(lease);
        if let Some(at_once) = lease.as_mut().now_or_never() {
            return Ok(self.once_committed(client, at_once, to_leases).await);
        }
        let mut stopped = self.stopped.clone();
        let leased = tokio::select! {
            biased;
            result = lease => result,
            _ = stopped.changed() => return Err(Problem::Stopping),
            () = client.gone() => Err(Error::EXHAUSTED),
        };
        let leased = self.once_committed(client, leased, to_leases).await;
        let Ok(leased) = leased else { return Ok(leased) };
        let mut given = Given { store: &*self.store, leases: to_leases(&leased) };
        if client.has_hung_up().await {
            return Ok(Err(Error::EXHAUSTED));
        }
        given.leases.clear();
        Ok(Ok(leased))
    }
}

/// Leases that go back to the store if they are dropped.
pub(super) struct Given<'a, S: Store> {
    pub(super) store: &'a S,
    pub(super) leases: Vec<Lease>,
}

impl<S: Store> Drop for Given<'_, S> {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            self.store.give_back(take(&mut self.leases));
        }
    }
}

/// An answer with the header fields of a key.
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
