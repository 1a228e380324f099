//! Requests of the router in the audit log.

use axum::extract::Request;
use axum::http::header::{ETAG, HeaderValue, IF_MATCH};
use axum::response::Response;

use super::client::Client;
use super::if_match::only_generation;
use crate::http::audit::{AuditLog, Entry, Sent, Subject};
use crate::http::route::{Route, key_of, pool_of};

/// Begins the entry of a request. O(length of its head).
pub(in crate::http) fn begin(request: &Request, route: Route) -> Box<Entry> {
    let (mut sent, fields) = (Sent::default(), request.headers());
    for value in fields.get_all(Sent::REQUEST_ID) {
        sent.add_request_id(value.as_bytes());
    }
    for value in fields.get_all(Sent::TRACEPARENT) {
        sent.add_traceparent(value.as_bytes());
    }
    let peer = request.extensions().get().and_then(Client::address);
    let mut entry = Entry::new(route, sent, peer);
    entry.pool = pool_of(request.uri().path()).and_then(|name| name.parse().ok());
    entry.subject = key_of(request.uri().path()).map(Subject::One);
    if matches!(route, Route::Release | Route::Renew | Route::Delete) {
        let mut fences = fields.get_all(IF_MATCH).iter();
        let fence = fences.next().filter(|_| fences.next().is_none());
        entry.generation = fence.map(HeaderValue::as_bytes).and_then(only_generation);
    }
    entry
}

/// Writes the line of a request, if it has one, and gives its answer the id that the line has. O(1).
pub(in crate::http) fn end(audit: &AuditLog, mut entry: Box<Entry>, response: &mut Response) {
    let status = response.status().as_u16();
    if !entry.is_logged(status) {
        return;
    }
    let given = response.extensions_mut().remove::<Subject>();
    entry.subject = given.or(entry.subject);
    let tag = response.headers().get(ETAG).map(HeaderValue::as_bytes);
    entry.generation = tag.and_then(only_generation).or(entry.generation);
    let id = HeaderValue::from_str(entry.request_id()).expect("visible ASCII characters");
    response.headers_mut().insert(Sent::REQUEST_ID, id);
    audit.write(&entry, status);
}
