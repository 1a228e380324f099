//! The bodies that tell of keys, written byte by byte: both paths of a request use them.

use std::io::Write;

use crate::key::{KeyId, KeyInfo};
use crate::store::Store;
use crate::time::Timestamp;

/// `{"keyId":"…"}`
pub(super) fn key_id(body: &mut Vec<u8>, id: &KeyId) {
    body.extend_from_slice(br#"{"keyId":""#);
    text(body, id);
    body.extend_from_slice(br#""}"#);
}

/// An id without quotes.
pub(super) fn text(body: &mut Vec<u8>, id: &KeyId) {
    body.extend_from_slice(id.encode(&mut [0; KeyId::TEXT_LEN]).as_bytes());
}

/// `{}`
pub(super) fn empty(body: &mut Vec<u8>) {
    body.extend_from_slice(b"{}");
}

/// `{"isBlocked":…,"blockedAt":…,"createdAt":"…"}`
pub(super) fn info(body: &mut Vec<u8>, store: &impl Store, info: &KeyInfo) {
    match info.lease {
        Some(lease) => {
            body.extend_from_slice(br#"{"isBlocked":true,"blockedAt":""#);
            time(body, store, lease.since);
            body.extend_from_slice(br#"","createdAt":""#);
        }
        None => body.extend_from_slice(br#"{"isBlocked":false,"blockedAt":null,"createdAt":""#),
    }
    time(body, store, info.created_at);
    body.extend_from_slice(br#""}"#);
}

/// RFC 3339, in UTC, with milliseconds.
fn time(body: &mut Vec<u8>, store: &impl Store, at: Timestamp) {
    write!(body, "{}", humantime::format_rfc3339_millis(store.wall(at))).expect("memory takes all");
}
