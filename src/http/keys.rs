//! The handlers of the API and their wire types.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::error::Problem;
use super::fence::IfMatch;
use super::peer::Peer;
use super::query::{CooldownMs, LeaseMs, LeaseQuery, ReleaseQuery, RenewalQuery, Wanted};
use super::schema::{Created, Empty, IfMatchHeader, Info, KeyPath, Leased};
use super::wire::Fields;
use super::{Api, batches, json, wire};
use crate::error::Error;
use crate::key::KeyId;
use crate::store::{Release, Renewal, Store, give_way};

/// The most keys that one request may create, lease, release or keep alive.
pub(super) const COUNT_MAX: usize = 100_000;
/// What the body of `POST /keys` must say.
pub(super) const EXPECTED: &str =
    "An object is expected, with no field but count, a number from 1 to 100000.";
/// How many items are written at a time: some 30 µs.
const LIST_BATCH: usize = 1024;

/// The id in a path.
pub(super) struct Id(KeyId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| Error::NotFound)?;
        let (_, text) = params.iter().next().ok_or(Error::NotFound)?;
        text.parse().map(Self)
    }
}

/// What to create.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    /// How many keys; without it one, which is answered in another form.
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, minimum = 1, maximum = 100_000, example = 3)]
    count: Option<u64>,
}

/// A whole number, as JSON sees it: also 3.0. A field may be left out, but then it is not `null`.
fn whole<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u64>, D::Error> {
    let number = f64::deserialize(field)?;
    number.to_string().parse().map(Some).map_err(|_| D::Error::custom("no whole number"))
}

/// Creates keys
///
/// All of them, or none if there is no room. The body is optional.
#[utoipa::path(
    post, path = "/keys", operation_id = "createKeys", tag = "pool",
    request_body(content = Create, content_type = "application/json"),
    responses((
        status = 201, description = "Created", body = Created,
        headers(("Location" = String), ("Key-Expires-At" = String)),
        examples(
            ("one" = (value = json!({"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8"}))),
            ("several" = (value = json!({"keyIds": ["936da01f-9abd-4d9d-80c7-02af85c822a8"]}))),
        ),
    )),
)]
pub(super) async fn create<S: Store>(State(api): State<Api<S>>, body: Bytes) -> Response {
    let create = match parse(&body) {
        Ok(create) => create,
        Err(problem) => return problem.response(),
    };
    let count = match create.count.map(usize::try_from) {
        None => 1,
        Some(Ok(count)) if (1..=COUNT_MAX).contains(&count) => count,
        Some(_) => return Problem::InvalidBody { expected: EXPECTED }.response(),
    };
    let created = match api.store.create(count).await {
        Ok(created) => created,
        Err(error) => return error.into_response(),
    };
    let fields = Fields::of_life(created.life_ends);
    if create.count.is_some() {
        return answer(
            &api,
            StatusCode::CREATED,
            &fields,
            list("keyIds", &created.ids, wire::quoted).await,
        );
    }
    let mut body = Vec::new();
    wire::key_id(&mut body, &created.ids[0]);
    let mut response = answer(&api, StatusCode::CREATED, &fields, body);
    let location = format!("/keys/{}", created.ids[0]);
    let location = HeaderValue::try_from(location).expect("an id is ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

/// Leases a random free key
///
/// Each free key is equally likely. Nobody else gets it until the lease ends.
#[utoipa::path(
    get, path = "/keys", operation_id = "leaseKey", tag = "pool",
    params(LeaseQuery),
    responses(
        (
            status = 200, description = "Leased", body = Leased,
            headers(("ETag" = String), ("Lease-Expires-At" = String)),
            examples(
                ("one" = (value = json!({"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8"}))),
                ("several" = (value = json!({"keys": [
                    {"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8", "etag": "\"1\""},
                ]}))),
            ),
        ),
        (status = 404, description = "No key is free", body = Empty, headers(("Retry-After" = String))),
    ),
)]
pub(super) async fn lease<S: Store>(
    State(api): State<Api<S>>,
    Extension(peer): Extension<Peer>,
    wanted: Wanted,
) -> Response {
    if let Some(count) = wanted.count {
        return batches::lease(&api, &peer, &wanted, count).await;
    }
    let leased = match api.while_wanted(&peer, api.store.lease(wanted.leasing)).await {
        Ok(leased) => leased,
        Err(problem) => return problem.into_response(),
    };
    match leased {
        Ok(lease) => {
            let mut body = Vec::new();
            wire::key_id(&mut body, &lease.id);
            answer(&api, StatusCode::OK, &Fields::of_lease(&lease), body)
        }
        Err(error) => no_lease(&api, error).await,
    }
}

/// The answer to a request that got no key.
pub(super) async fn no_lease<S: Store>(api: &Api<S>, error: Error) -> Response {
    if error != Error::Exhausted {
        return error.into_response();
    }
    let fields = Fields::of_exhausted(&*api.store).await;
    answer(api, StatusCode::NOT_FOUND, &fields, "{}")
}

/// Shows a key
#[utoipa::path(
    get, path = "/keys/{id}", operation_id = "showKey", tag = "key",
    params(KeyPath),
    responses(
        (
            status = 200, description = "What is known of it", body = Info,
            headers(("ETag" = String), ("Lease-Expires-At" = String), ("Key-Expires-At" = String)),
        ),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(super) async fn show<S: Store>(
    State(api): State<Api<S>>,
    Id(id): Id,
) -> Result<Response, Error> {
    let info = api.store.get(&id).await?;
    let mut body = Vec::new();
    wire::info(&mut body, &*api.store, &info);
    Ok(answer(&api, StatusCode::OK, &Fields::of_key(&info), body))
}

/// Releases a key
///
/// A free one stays free. Without a cool-down, one that rests is free.
#[utoipa::path(
    put, path = "/keys/{id}", operation_id = "releaseKey", tag = "key",
    params(KeyPath, ReleaseQuery, IfMatchHeader),
    responses(
        (status = 200, description = "Released", body = Empty),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(super) async fn release<S: Store>(
    State(api): State<Api<S>>,
    if_match: IfMatch,
    CooldownMs(cooldown_ms): CooldownMs,
    Id(id): Id,
) -> Result<Response, Error> {
    api.store.release(&id, Release { fence: if_match.fence(), cooldown_ms }).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::default(), "{}"))
}

/// Renews a lease
///
/// It starts anew, and its `ETag` stays.
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
pub(super) async fn renew<S: Store>(
    State(api): State<Api<S>>,
    if_match: IfMatch,
    LeaseMs(lease_ms): LeaseMs,
    Id(id): Id,
) -> Result<Response, Error> {
    let lease = api.store.renew(&id, Renewal { fence: if_match.fence(), lease_ms }).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::of_lease(&lease), "{}"))
}

/// Removes a key
///
/// Leased or not.
#[utoipa::path(
    delete, path = "/keys/{id}", operation_id = "deleteKey", tag = "key",
    params(KeyPath, IfMatchHeader),
    responses(
        (status = 200, description = "Removed", body = Empty),
        (status = 404, description = "No such key", body = Empty),
    ),
)]
pub(super) async fn delete<S: Store>(
    State(api): State<Api<S>>,
    if_match: IfMatch,
    Id(id): Id,
) -> Result<Response, Error> {
    api.store.delete(&id, if_match.fence()).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::default(), "{}"))
}

/// Keeps a key alive
///
/// Its life starts anew; its lease stays as it is.
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
pub(super) async fn keep_alive<S: Store>(
    State(api): State<Api<S>>,
    Id(id): Id,
) -> Result<Response, Error> {
    let ends = api.store.keep_alive(&id).await?;
    Ok(answer(&api, StatusCode::OK, &Fields::of_life(ends), "{}"))
}

pub(super) fn answer<S: Store>(
    api: &Api<S>,
    status: StatusCode,
    fields: &Fields,
    body: impl Into<axum::body::Body>,
) -> Response {
    let mut response = json(status, body);
    fields.each(&*api.store, |name, value| {
        let value = HeaderValue::from_bytes(value).expect("digits and punctuation");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    });
    response
}

/// Writes an object with one list, of one item at least, without holding up others.
pub(super) async fn list<T>(name: &str, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut body = format!(r#"{{"{name}":["#).into_bytes();
    body.reserve(items.len() * (KeyId::TEXT_LEN + 3) + 2);
    for batch in items.chunks(LIST_BATCH) {
        for item in batch {
            write(&mut body, item);
            body.push(b',');
        }
        give_way().await;
    }
    body.pop(); // The last comma.
    body.extend_from_slice(b"]}");
    body
}

/// Reads a body as JSON, whatever its media type; an empty one says nothing.
fn parse(body: &[u8]) -> Result<Create, Problem> {
    if body.is_empty() {
        return Ok(Create::default());
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(body) {
        return Err(Problem::MalformedBody { detail: error.to_string() });
    }
    let create = serde_json::from_slice(body).ok().filter(|_| is_object(body));
    create.ok_or(Problem::InvalidBody { expected: EXPECTED })
}

/// Whether JSON is an object. To serde an array is a struct without names.
pub(super) fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
}
