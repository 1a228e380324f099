//! The fields of a head that have a meaning on the hot path.

use httparse::Header;

use crate::http::audit::Sent;
use crate::http::auth::FETCH_SITE;

/// Fields that have a meaning here.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) authorization: Option<&'a [u8]>,
    pub(super) if_match: Option<&'a [u8]>,
    pub(super) request_key: Option<&'a [u8]>,
    /// The name of the pool in the path. It is no field, but has a meaning for the token.
    pub(super) pool: Option<&'a str>,
    /// Whether there is an audit log: only then `sent` is read.
    pub(super) is_audited: bool,
    pub(super) sent: Sent<'a>,
}

impl<'a> Fields<'a> {
    /// Whether a field means nothing to the connection or to the length of the request. Those that have a
    /// meaning here are kept; of two nobody knows which one counts.
    pub(super) fn admit(&mut self, field: &Header<'a>) -> bool {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 => !is("host") || self.host.replace(field.value).is_none(),
            6 => !is("expect") && !is("origin"),
            8 => !is("if-match") || self.if_match.replace(field.value).is_none(),
            7 => !is("upgrade"),
            11 if self.is_audited && is(Sent::TRACEPARENT) => {
                self.sent.add_traceparent(field.value);
                true
            }
            12 if self.is_audited && is(Sent::REQUEST_ID) => {
                self.sent.add_request_id(field.value);
                true
            }
            10 => !is("connection") || field.value.eq_ignore_ascii_case(b"keep-alive"),
            13 => !is("authorization") || self.authorization.replace(field.value).is_none(),
            14 => (!is("content-length") || field.value == b"0") && !is(FETCH_SITE),
            15 => !is("idempotency-key") || self.request_key.replace(field.value).is_none(),
            17 => !is("transfer-encoding"),
            _ => true,
        }
    }
}
