//! The pool that a request is for.

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use axum::http::request::Parts;

use super::limits::Limits;
use super::state::Api;
use crate::http::route::pool_of;
use crate::http::wire::Problem;
use crate::pool::PoolId;
use crate::store::{Store, committed};

/// The pool that the path names, or the default pool.
pub(in crate::http) struct OfPool(pub(in crate::http) PoolId);

impl<S: Store> FromRequestParts<Api<S>> for OfPool {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let path = path(parts);
        let pool = match pool_of(path) {
            Some(name) => api.store.find_pool(name),
            None => (!path.starts_with("/pools/")).then_some(PoolId::DEFAULT),
        };
        if pool.is_none() {
            // It may just have been deleted.
            committed(&*api.store).await;
        }
        pool.map(Self).ok_or(Problem::NoSuchPool)
    }
}

/// The name of the pool in the path, as it was sent: the same one that was checked with the token.
pub(super) fn name_of_pool(parts: &Parts) -> Option<String> {
    pool_of(path(parts)).map(str::to_owned)
}

/// The whole path: a nested router sees the rest of it only.
fn path(parts: &Parts) -> &str {
    let original = parts.extensions.get().map(|OriginalUri(uri)| uri);
    original.unwrap_or(&parts.uri).path()
}

/// A part of the path.
pub(super) async fn parameter(parts: &mut Parts, name: &str) -> Option<String> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let found = parameters.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.to_owned())
}

/// Reads what has limits with those of the pool that a request is for.
///
/// # Errors
///
/// [`Problem::NoSuchPool`], or that of `read`.
pub(super) async fn within_limits<S: Store, T>(
    parts: &mut Parts,
    api: &Api<S>,
    read: impl FnOnce(Limits) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let OfPool(pool) = OfPool::from_request_parts(parts, api).await?;
    let limits = api.store.settings_of(pool).map(Limits::from);
    let read = limits.ok_or(Problem::NoSuchPool).and_then(read);
    if read.is_err() {
        // The refusal tells of settings that may just have been changed.
        committed(&*api.store).await;
    }
    read
}
