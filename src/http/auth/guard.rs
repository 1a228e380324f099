//! The check that comes before every handler of the router.

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};

use super::access::{Access, CachedRole};
use super::hosts::host_of;
use super::same_site::is_from_elsewhere;
use crate::http::route::Need;
use crate::http::wire::Problem;

/// Whether a request is allowed, asked before its body is read. `pool` is the one that it is about, if it is about
/// one. `cached` receives its token.
///
/// # Errors
///
/// Why it is refused.
pub(in crate::http) fn guard(
    access: &Access,
    request: &Request,
    need: Need,
    pool: Option<&str>,
    cached: &mut Option<Box<CachedRole>>,
) -> Result<(), Problem> {
    let fields = request.headers();
    match host_of(request)? {
        Some(host) if need != Need::Nothing => access.check_host(host)?,
        _ => {}
    }
    if need != Need::Nothing && is_from_elsewhere(request, access.is_guarded()) {
        return Err(Problem::FromElsewhere);
    }
    access.check(authorization(fields), need, pool, cached)
}

/// The `Authorization` of a request. With two values it would be unclear which one applies.
pub(in crate::http) fn authorization(fields: &HeaderMap) -> Option<&[u8]> {
    let mut values = fields.get_all(AUTHORIZATION).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}
