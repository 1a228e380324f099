//! Which requests are hot.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use crate::http::auth::FETCH_SITE;
use crate::http::route::Route;
use crate::http::wire::{HEAD_BYTES_MAX, HTTP2_PREFACE};
use crate::key::{Fence, KeyId};
use crate::store::{Leasing, Operation, Release};

/// A head with more fields is left to hyper, which refuses it: so no head that stalls goes there to be
/// waited for once more.
const FIELDS_MAX: usize = 100;

/// What input begins with.
pub(super) enum Parsed<'a> {
    /// A request, its length, and its `Authorization`.
    Hot(Hot, usize, Option<&'a [u8]>),
    /// The beginning of a head.
    Partial,
    /// Anything else, which is left to hyper.
    Cold,
}

#[derive(Clone, Copy)]
pub(super) enum Hot {
    Lease,
    Show(KeyId),
    Release(KeyId),
    Delete(KeyId),
    KeepAlive(KeyId),
}

impl Hot {
    /// What may be asked for.
    pub(super) const ROUTES: [Route; 5] =
        [Route::Lease, Route::Show, Route::Release, Route::Delete, Route::KeepAlive];

    /// What is asked for, as a place in [`Hot::ROUTES`].
    pub(super) fn place(self) -> usize {
        match self {
            Self::Lease => 0,
            Self::Show(_) => 1,
            Self::Release(_) => 2,
            Self::Delete(_) => 3,
            Self::KeepAlive(_) => 4,
        }
    }

    /// What the store is asked for.
    pub(super) fn operation(self) -> Operation<'static> {
        match self {
            Self::Lease => Operation::Lease(Leasing::default()),
            Self::Show(id) => Operation::Show(id),
            Self::Release(id) => Operation::Release(id, Release::default()),
            Self::Delete(id) => Operation::Delete(id, Fence::Any),
            Self::KeepAlive(id) => Operation::KeepAlive(id),
        }
    }

    /// Of which key.
    pub(super) fn id(&self) -> Option<&KeyId> {
        match self {
            Self::Lease => None,
            Self::Show(id) | Self::Release(id) | Self::Delete(id) | Self::KeepAlive(id) => Some(id),
        }
    }
}

/// Reads the head of a request. O(length).
pub(super) fn parse(input: &[u8]) -> Parsed<'_> {
    if input.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(input) {
        // Hyper would wait for the rest of it for ever.
        return Parsed::Partial;
    }
    let mut fields = [const { MaybeUninit::<Header>::uninit() }; FIELDS_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut fields) {
        Ok(Status::Complete(length)) => {
            let mut authorization = None;
            hot(&request, &mut authorization)
                .map_or(Parsed::Cold, |hot| Parsed::Hot(hot, length, authorization))
        }
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => Parsed::Partial,
        _ => Parsed::Cold,
    }
}

fn hot<'a>(request: &Request<'_, 'a>, authorization: &mut Option<&'a [u8]>) -> Option<Hot> {
    let is_usual = |field: &Header<'a>| is_usual(field, authorization);
    if request.version != Some(1) || !request.headers.iter().all(is_usual) {
        return None;
    }
    let path = request.path?;
    if let Some(id) = path.strip_prefix("/keys/") {
        let id = id.parse().ok()?;
        return match request.method? {
            "GET" => Some(Hot::Show(id)),
            "PUT" => Some(Hot::Release(id)),
            "DELETE" => Some(Hot::Delete(id)),
            _ => None,
        };
    }
    match (request.method?, path) {
        ("GET", "/keys") => Some(Hot::Lease),
        ("PUT", _) => Some(Hot::KeepAlive(path.strip_prefix("/keepalive/")?.parse().ok()?)),
        _ => None,
    }
}

/// Whether a field means nothing to the connection, to the length of the request, or to a key. The one
/// that tells who asks is kept.
fn is_usual<'a>(field: &Header<'a>, authorization: &mut Option<&'a [u8]>) -> bool {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    match field.name.len() {
        6 => !is("expect") && !is("origin"),
        8 => !is("if-match"),
        7 => !is("upgrade"),
        10 => !is("connection") || field.value.eq_ignore_ascii_case(b"keep-alive"),
        // Of two nobody knows which one counts.
        13 => !is("authorization") || authorization.replace(field.value).is_none(),
        14 => (!is("content-length") || field.value == b"0") && !is(FETCH_SITE),
        17 => !is("transfer-encoding"),
        _ => true,
    }
}
