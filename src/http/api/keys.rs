//! The handlers for one key.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::if_match::IfMatch;
use super::of_pool::{OfPool, parameter};
use super::query::{CooldownMs, LeaseMs, ReleaseQuery, RenewalQuery};
use super::state::{Api, answer};
use crate::error::Error;
use crate::http::wire::{self, Empty, Fields, IfMatchHeader, Info, KeyPath};
use crate::key::KeyId;
use crate::store::{Release, Renewal, Store, StoreExt};

/// The key id in a path.
pub(in crate::http) struct Id(KeyId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let text = parameter(parts, "id").await.ok_or(Error::NotFound)?;
        text.parse().map(Self)
    }
}

/// Shows a key
#[utoipa::path(
    get, path = "/keys/{id}", operation_id = "showKey", tag = "key",
    params(KeyPath),
    responses(
        (
            status = 200, description = "The state of the key", body = Info,
            headers(
                ("ETag" = String), ("Lease-Expires-At" = String), ("Lease-Holder" = String), ("Key-Expires-At" = String),
            ),
        ),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(in crate::http) async fn show<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    Id(id): Id,
) -> Result<Response, Error> {
    let info = api.store.pool(pool).get(&id).await?;
    let mut body = Vec::new();
    wire::info(&mut body, &*api.store, &info);
    Ok(answer(&api, StatusCode::OK, &Fields::of_key(&info), body))
}

/// Releases a key
///
/// The key is free again, or cools down first. A key that is free stays free, unless a cool-down is given.
/// Without a cool-down, a key that is cooling down is free at once.
#[utoipa::path(
    put, path = "/keys/{id}", operation_id = "releaseKey", tag = "key",
    params(KeyPath, ReleaseQuery, IfMatchHeader),
    responses(
        (status = 200, description = "Released", body = Empty),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(in crate::http) async fn release<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    if_match: IfMatch,
    CooldownMs(cooldown_ms): CooldownMs,
    Id(id): Id,
) -> Result<Response, Error> {
    api.store.pool(pool).release(&id, Release { fence: if_match.fence(), cooldown_ms }).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::default(), "{}"))
}

/// Renews a lease
///
/// The lease starts again. Its `ETag` stays the same.
#[utoipa::path(
    put, path = "/keys/{id}/lease", operation_id = "renewLease", tag = "key",
    params(KeyPath, RenewalQuery, IfMatchHeader),
    responses(
        (
            status = 200, description = "Renewed", body = Empty,
            headers(("ETag" = String), ("Lease-Expires-At" = String)),
        ),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(in crate::http) async fn renew<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    if_match: IfMatch,
    LeaseMs(lease_ms): LeaseMs,
    Id(id): Id,
) -> Result<Response, Error> {
    let lease =
        api.store.pool(pool).renew(&id, Renewal { fence: if_match.fence(), lease_ms }).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::of_lease(&lease), "{}"))
}

/// Deletes a key
///
/// A leased key is deleted as well; its lease is lost.
#[utoipa::path(
    delete, path = "/keys/{id}", operation_id = "deleteKey", tag = "key",
    params(KeyPath, IfMatchHeader),
    responses(
        (status = 200, description = "Deleted", body = Empty),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(in crate::http) async fn delete<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    if_match: IfMatch,
    Id(id): Id,
) -> Result<Response, Error> {
    api.store.pool(pool).delete(&id, if_match.fence()).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::default(), "{}"))
}

/// Keeps a key alive
///
/// The life of the key starts again. Its lease does not change.
#[utoipa::path(
    put, path = "/keepalive/{id}", operation_id = "keepKeyAlive", tag = "key",
    params(KeyPath),
    responses(
        (
            status = 200, description = "Kept alive", body = Empty,
            headers(("Key-Expires-At" = String)),
        ),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(in crate::http) async fn keep_alive<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    Id(id): Id,
) -> Result<Response, Error> {
    let ends = api.store.pool(pool).keep_alive(&id).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::of_life(ends), "{}"))
}
