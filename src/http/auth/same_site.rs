//! Requests that browsers send for pages of other sites.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{HOST, ORIGIN};

/// A header field that only browsers send: the site of the page that sends the request.
pub(in crate::http) const FETCH_SITE: &str = "sec-fetch-site";

/// Whether a browser says that a page of another site sends the request. Without this check, any page could
/// make a browser lease and create keys at a server that asks for no tokens.
pub(super) fn is_from_elsewhere(request: &Request, is_guarded: bool) -> bool {
    let fields = request.headers();
    let is_cross_site = |site: &HeaderValue| site == "cross-site" || site == "same-site";
    // A page cannot set this field, and it holds where a proxy has changed the host.
    let mut sites = fields.get_all(FETCH_SITE).iter();
    if sites.next().is_some_and(|site| site == "same-origin") && sites.next().is_none() {
        return false;
    }
    let host = fields.get(HOST).map(HeaderValue::as_bytes);
    // HTTP/2 has the host in the target.
    let host = host.or_else(|| request.uri().authority().map(|host| host.as_str().as_bytes()));
    // From browsers without that field. A proxy may have changed the host; a server behind one should ask for
    // tokens.
    let is_foreign = |origin: &HeaderValue| {
        let at = origin.as_bytes().windows(3).position(|part| part == b"://");
        at.is_none_or(|at| Some(&origin.as_bytes()[at + 3..]) != host)
    };
    fields.get_all(FETCH_SITE).iter().any(is_cross_site)
        || !is_guarded && fields.get_all(ORIGIN).iter().any(is_foreign)
}
