//! `Idempotency-Key`: what a client calls a request, so that a retry is known as one.

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use ring::digest::{Context, SHA256, digest};

use crate::http::wire::Problem;
use crate::key::Label;
use crate::pool::PoolId;
use crate::store::{Leasing, RequestKey};

/// The name of the field.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest value, in bytes.
const BYTES_MAX: usize = 255;

/// The request key that `Idempotency-Key` stands for; clients with different tokens have keys of their own, and so
/// has each pool. `None`
/// if the value is malformed. O(length).
pub(in crate::http) fn request_key(
    value: &[u8],
    authorization: Option<&[u8]>,
    pool: PoolId,
    leasing: &Leasing,
    count: usize,
) -> Option<RequestKey> {
    let is_visible = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if value.is_empty() || value.len() > BYTES_MAX || !value.iter().all(is_visible) {
        return None;
    }
    // The token alone, however its scheme is written.
    let token = authorization.unwrap_or_default().trim_ascii();
    let token = token.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let mut context = Context::new(&SHA256);
    // So that no two pairs give the same bytes.
    context.update(&(value.len() as u64).to_le_bytes());
    context.update(value);
    context.update(token);
    // Last, as its length is known.
    context.update(&pool.place.to_le_bytes());
    context.update(&pool.serial.to_le_bytes());
    let mut digest = [0; RequestKey::DIGEST_BYTES];
    digest.copy_from_slice(&context.finish().as_ref()[..RequestKey::DIGEST_BYTES]);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    // Neither a lease nor a count is ever zero, so zero stands for none.
    let [label, holder] = texts(leasing).map(checksum);
    let parameters = [leasing.lease_ms.unwrap_or(0), leasing.wait_ms, count, label, holder];
    Some(RequestKey { digest, parameters })
}

/// The label and the name of the holder, as far as there are any.
fn texts(leasing: &Leasing) -> [Option<String>; 2] {
    let holder = leasing.holder.as_ref().map(|holder| holder.name().to_owned());
    [leasing.label.as_ref().map(Label::to_string), holder]
}

/// Tells texts apart, but for one in 2^31; 0 stands for none.
fn checksum(text: Option<String>) -> u32 {
    let Some(text) = text else { return 0 };
    let digest = digest(&SHA256, text.as_bytes());
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&digest.as_ref()[..4]);
    u32::from_le_bytes(bytes) | 1
}

/// `Idempotency-Key` and `Authorization` of a request.
pub(in crate::http) struct IdempotencyKey {
    key: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let key = keys.next().cloned();
        if keys.next().is_some() {
            return Err(Problem::MalformedRequestKey);
        }
        Ok(Self { key, authorization: parts.headers.get(AUTHORIZATION).cloned() })
    }
}

impl IdempotencyKey {
    /// The request key, if there is one. O(length).
    ///
    /// # Errors
    ///
    /// [`Problem::MalformedRequestKey`]
    pub(super) fn request_key(
        &self,
        pool: PoolId,
        leasing: &Leasing,
        count: usize,
    ) -> Result<Option<RequestKey>, Problem> {
        let Some(key) = &self.key else { return Ok(None) };
        let authorization = self.authorization.as_ref().map(HeaderValue::as_bytes);
        let key = request_key(key.as_bytes(), authorization, pool, leasing, count);
        key.map(Some).ok_or(Problem::MalformedRequestKey)
    }
}
