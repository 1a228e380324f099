//! Reading heads of requests, and leaving to hyper what is not hot.

use std::mem::MaybeUninit;

use axum::http::{self, Version};
use httparse::{Header, Request, Status};
use hyper::body::Body;

use super::fields::Fields;
use super::known_pool::{AnyPool, Lookup};
use super::request::Hot;
use crate::http::route::in_pool;
use crate::http::wire::{HEAD_BYTES_MAX, HTTP2_PREFACE};

/// A head with more fields is left to hyper, which refuses it: so no head that stalls goes there to be
/// waited for once more.
const FIELDS_MAX: usize = 100;

/// What input begins with.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it was made, and never kept"
)]
pub(super) enum Parsed<'a> {
    /// A request, its length, and its fields with a meaning.
    Hot(Hot, usize, Fields<'a>),
    /// The beginning of a head.
    Partial,
    /// Anything else, which is left to hyper.
    Cold,
}

/// Reads the head of a request, with what the client calls it if there is an audit log. O(length).
pub(super) fn parse<'a>(input: &'a [u8], pools: &mut impl Lookup, is_audited: bool) -> Parsed<'a> {
    if input.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(input) {
        // Hyper would wait for the rest of it for ever.
        return Parsed::Partial;
    }
    let mut fields = [const { MaybeUninit::<Header>::uninit() }; FIELDS_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut fields) {
        Ok(Status::Complete(length)) => {
            let mut special = Fields { is_audited, ..Fields::default() };
            hot(&request, &mut special, pools)
                .map_or(Parsed::Cold, |hot| Parsed::Hot(hot, length, special))
        }
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => Parsed::Partial,
        _ => Parsed::Cold,
    }
}

/// Whether a request that hyper has read is one that this path answers, apart from its host, its token and its
/// pool.
/// O(length).
pub(in crate::http) fn is_hot<B: Body>(request: &http::Request<B>) -> bool {
    let mut special = Fields::default();
    let mut fields = request.headers().iter();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    request.version() == Version::HTTP_11
        && request.uri().authority().is_none()
        && fields.all(|(name, value)| {
            special.admit(&Header { name: name.as_str(), value: value.as_bytes() })
        })
        && Hot::of(request.method().as_str(), target, &special, &mut AnyPool).is_some()
}

fn hot<'a>(
    request: &Request<'_, 'a>,
    special: &mut Fields<'a>,
    pools: &mut impl Lookup,
) -> Option<Hot> {
    if request.version != Some(1) || !request.headers.iter().all(|field| special.admit(field)) {
        return None;
    }
    let target = request.path?;
    special.pool = target.split('?').next().and_then(in_pool).map(|(name, _)| name);
    Hot::of(request.method?, target, special, pools)
}
