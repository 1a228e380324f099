//! The check that comes before every handler of the router.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;

use super::access::Access;
use super::hosts::host_of;
use super::same_site::is_from_elsewhere;
use crate::http::route::Need;
use crate::http::wire::Problem;

/// Whether a request is allowed, asked before its body is read.
///
/// # Errors
///
/// Why it is refused.
pub(in crate::http) fn guard(
    access: &Access,
    request: &Request,
    need: Need,
) -> Result<(), Problem> {
    let fields = request.headers();
    match host_of(request)? {
        Some(host) if need != Need::Nothing => access.check_host(host)?,
        _ => {}
    }
    if need != Need::Nothing && is_from_elsewhere(request, access.is_guarded()) {
        return Err(Problem::FromElsewhere);
    }
    let mut values = fields.get_all(AUTHORIZATION).iter();
    // With two values it would be unclear which one applies.
    let value = values.next().filter(|_| values.next().is_none());
    access.check(value.map(HeaderValue::as_bytes), need, &mut None)
}
