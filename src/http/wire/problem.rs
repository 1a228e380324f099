//! Refusals: the only map from errors to statuses and bodies.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::json::retry_after_s;
use crate::error::Error;

/// A refusal as it is sent, on either path of a request.
pub(in crate::http) struct Refusal {
    pub(in crate::http) status: StatusCode,
    /// Names in lower case, and values.
    pub(in crate::http) fields: Vec<(&'static str, Cow<'static, str>)>,
    pub(in crate::http) body: Vec<u8>,
}

impl Refusal {
    fn new(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        let fields =
            vec![("content-type", content_type.into()), ("cache-control", "no-store".into())];
        Self { status, fields, body }
    }

    /// The only map from errors of the store to answers. Both paths of a request use it.
    pub(in crate::http) fn of(error: &Error) -> Self {
        match *error {
            // The problem statement asks for 404 `{}`.
            Error::NotFound => Self::empty(),
            Error::Exhausted { retry_after_ms } => {
                let mut refusal = Self::empty();
                refusal.fields.extend(retry_after_ms.map(retry_after));
                refusal
            }
            Error::NotLeased => Problem::NotLeased.refusal(),
            Error::Stale => Problem::Stale.refusal(),
            Error::RequestInProgress => Problem::RequestInProgress.refusal(),
            Error::RequestReused => Problem::RequestReused.refusal(),
            Error::TooManyWaiters => Problem::TooManyWaiters.refusal(),
            Error::Full { retry_after_ms } => Problem::PoolFull { retry_after_ms }.refusal(),
            Error::MalformedCursor => {
                let detail = "cursor must be that of the page before.".to_owned();
                Problem::InvalidParameter { detail }.refusal()
            }
            Error::NoSuchPool => Problem::NoSuchPool.refusal(),
            Error::PoolNotEmpty => Problem::PoolNotEmpty.refusal(),
            Error::DefaultPool => Problem::DefaultPool.refusal(),
            Error::TooManyPools => Problem::TooManyPools.refusal(),
            Error::ValuesFull => Problem::ValuesFull.refusal(),
            Error::TooManyLabels => Problem::TooManyLabels.refusal(),
            Error::TooManyHeld => Problem::TooManyHeld.refusal(),
            Error::Starting => Problem::Starting.refusal(),
            Error::StorageFull => Problem::StorageFull.refusal(),
            Error::Unavailable { retry_after_ms } => {
                Problem::Unavailable { retry_after_ms }.refusal()
            }
        }
    }

    /// 404 `{}`
    fn empty() -> Self {
        Self::new(StatusCode::NOT_FOUND, "application/json", b"{}".to_vec())
    }
}

fn retry_after(ms: u64) -> (&'static str, Cow<'static, str>) {
    ("retry-after", retry_after_s(ms).to_string().into())
}

impl From<&Problem> for Refusal {
    fn from(problem: &Problem) -> Self {
        problem.refusal()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        for (name, value) in self.fields {
            let value = HeaderValue::try_from(&*value).expect("ASCII text");
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Refusal::of(&self).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}

/// The media type of a refusal.
pub(in crate::http) const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal that is not in the problem statement. Its body follows RFC 9457.
pub(in crate::http) enum Problem {
    NoSuchPath,
    NoSuchPool,
    MalformedPoolName,
    InvalidSettings { detail: String },
    PoolNotEmpty,
    DefaultPool,
    TooManyPools,
    MethodNotAllowed { allowed: &'static str },
    InvalidParameter { detail: String },
    MalformedIfMatch,
    MalformedBody { detail: String },
    NotLeased,
    Stale,
    RequestInProgress,
    RequestReused,
    MalformedRequestKey,
    TooManyWaiters,
    TooManyWaitersOfClient,
    TooManyViewers,
    Stopping,
    Busy,
    Unauthorized { has_token: bool },
    Forbidden { role: &'static str },
    ForbiddenPool { pool: Option<String> },
    FromElsewhere,
    MalformedHost,
    ForeignHost { host: String },
    TransferCoding { is_known: bool },
    InvalidBody { expected: &'static str },
    BodyTooLarge { max: usize },
    BodyTimeout,
    InvalidKey { detail: String },
    ValuesFull,
    TooManyLabels,
    TooManyHeld,
    PoolFull { retry_after_ms: u64 },
    LargerThanPool { max: u64 },
    Starting,
    StorageFull,
    Unavailable { retry_after_ms: u64 },
}

/// A refusal, as described in RFC 9457.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Details {
    /// The kind of the refusal, for programs. It stays the same from version to version.
    #[schema(format = "uri-reference")]
    pub(in crate::http) r#type: String,
    /// The kind of the refusal, for people.
    pub(in crate::http) title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub(in crate::http) status: u16,
    /// What is wrong with this request, and what to do next.
    detail: Cow<'static, str>,
}

impl Problem {
    pub(in crate::http) fn details(&self) -> Details {
        let (kind, status, title) = self.kind();
        let r#type = format!("/problems/{kind}");
        Details { r#type, title, status: status.as_u16(), detail: self.detail() }
    }

    /// The last part of its type, the status, and the title.
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn kind(&self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::NoSuchPath => ("no-such-path", StatusCode::NOT_FOUND, "No such path"),
            Self::NoSuchPool => ("no-such-pool", StatusCode::NOT_FOUND, "No such pool"),
            Self::MalformedPoolName => (
                "malformed-pool-name",
                StatusCode::BAD_REQUEST,
                "The name of the pool is malformed",
            ),
            Self::InvalidSettings { .. } => {
                ("invalid-settings", StatusCode::UNPROCESSABLE_ENTITY, "A setting is invalid")
            }
            Self::PoolNotEmpty => ("pool-not-empty", StatusCode::CONFLICT, "The pool has keys"),
            Self::DefaultPool => {
                ("default-pool", StatusCode::CONFLICT, "The default pool cannot be deleted")
            }
            Self::TooManyPools => {
                ("too-many-pools", StatusCode::SERVICE_UNAVAILABLE, "There are too many pools")
            }
            Self::MethodNotAllowed { .. } => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Self::InvalidParameter { .. } => {
                ("invalid-parameter", StatusCode::BAD_REQUEST, "A parameter is invalid")
            }
            Self::MalformedIfMatch => {
                ("malformed-if-match", StatusCode::BAD_REQUEST, "If-Match is malformed")
            }
            Self::NotLeased => ("not-leased", StatusCode::CONFLICT, "The key is not leased"),
            Self::Stale => ("stale-lease", StatusCode::PRECONDITION_FAILED, "The lease is over"),
            Self::Stopping => {
                ("stopping", StatusCode::SERVICE_UNAVAILABLE, "The server is stopping")
            }
            Self::Busy => {
                ("busy", StatusCode::SERVICE_UNAVAILABLE, "Too many large requests at once")
            }
            Self::RequestInProgress => (
                "request-in-progress",
                StatusCode::CONFLICT,
                "A request with this Idempotency-Key waits for a key",
            ),
            Self::RequestReused => (
                "idempotency-key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key belongs to another request",
            ),
            Self::MalformedRequestKey => (
                "malformed-idempotency-key",
                StatusCode::BAD_REQUEST,
                "Idempotency-Key is malformed",
            ),
            Self::TooManyWaitersOfClient => (
                "too-many-waiters-of-client",
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests of this client wait for a key",
            ),
            Self::TooManyWaiters => (
                "too-many-waiters",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many requests wait for a key",
            ),
            Self::TooManyViewers => (
                "too-many-viewers",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many dashboards are open",
            ),
            Self::Unauthorized { .. } => {
                ("unauthorized", StatusCode::UNAUTHORIZED, "A token is needed")
            }
            Self::Forbidden { .. } => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "The role of the token does not allow this request",
            ),
            Self::ForbiddenPool { .. } => (
                "forbidden-pool",
                StatusCode::FORBIDDEN,
                "The pools of the token do not allow this request",
            ),
            Self::FromElsewhere => {
                ("cross-site", StatusCode::FORBIDDEN, "The request comes from another site")
            }
            Self::MalformedHost => {
                ("malformed-host", StatusCode::BAD_REQUEST, "Host is missing or malformed")
            }
            Self::ForeignHost { .. } => (
                "foreign-host",
                StatusCode::MISDIRECTED_REQUEST,
                "The server is not known by this name",
            ),
            Self::TransferCoding { is_known: true } => {
                ("malformed-coding", StatusCode::BAD_REQUEST, "Transfer-Encoding is malformed")
            }
            Self::TransferCoding { is_known: false } => (
                "unknown-coding",
                StatusCode::NOT_IMPLEMENTED,
                "The coding of the body is not supported",
            ),
            Self::MalformedBody { .. } => {
                ("malformed-body", StatusCode::BAD_REQUEST, "The body is malformed")
            }
            Self::InvalidBody { .. } => {
                ("invalid-body", StatusCode::UNPROCESSABLE_ENTITY, "The body has the wrong form")
            }
            Self::BodyTooLarge { .. } => {
                ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large")
            }
            Self::BodyTimeout => {
                ("body-timeout", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")
            }
            Self::InvalidKey { .. } => {
                ("invalid-key", StatusCode::UNPROCESSABLE_ENTITY, "A key to import is invalid")
            }
            Self::ValuesFull => {
                ("values-full", StatusCode::SERVICE_UNAVAILABLE, "There is no room for more values")
            }
            Self::TooManyLabels => (
                "too-many-labels",
                StatusCode::SERVICE_UNAVAILABLE,
                "The keys of the pool have too many different labels",
            ),
            Self::TooManyHeld => (
                "too-many-held",
                StatusCode::TOO_MANY_REQUESTS,
                "The token has as many leases as it may have",
            ),
            Self::LargerThanPool { .. } => {
                ("larger-than-pool", StatusCode::UNPROCESSABLE_ENTITY, "The pool is not that large")
            }
            Self::PoolFull { .. } => {
                ("pool-full", StatusCode::SERVICE_UNAVAILABLE, "The pool is full")
            }
            Self::Starting => {
                ("starting", StatusCode::SERVICE_UNAVAILABLE, "The server is starting")
            }
            Self::StorageFull => (
                "storage-full",
                StatusCode::SERVICE_UNAVAILABLE,
                "The disk of the server, or the memory of its store, is full",
            ),
            Self::Unavailable { .. } => {
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The store is not available")
            }
        }
    }

    pub(in crate::http) fn response(self) -> Response {
        self.refusal().into_response()
    }

    fn refusal(&self) -> Refusal {
        let details = self.details();
        let status = StatusCode::from_u16(details.status).expect("a status");
        let body = serde_json::to_vec(&details).expect("strings and a number");
        let mut refusal = Refusal::new(status, PROBLEM_JSON, body);
        refusal.fields.extend(match self {
            Self::MethodNotAllowed { allowed } => Some(("allow", (*allowed).into())),
            Self::PoolFull { retry_after_ms } | Self::Unavailable { retry_after_ms } => {
                Some(retry_after(*retry_after_ms))
            }
            Self::Unauthorized { has_token: true } => {
                let challenge = r#"Bearer realm="token-orchestrator", error="invalid_token""#;
                Some(("www-authenticate", challenge.into()))
            }
            Self::Unauthorized { has_token: false } => {
                Some(("www-authenticate", r#"Bearer realm="token-orchestrator""#.into()))
            }
            // Where the body ends is not sure, and so not where the next request begins.
            Self::TransferCoding { .. } => Some(("connection", "close".into())),
            Self::TooManyWaiters
            | Self::TooManyWaitersOfClient
            | Self::TooManyViewers
            | Self::RequestInProgress
            | Self::TooManyPools
            | Self::TooManyHeld
            | Self::ValuesFull
            | Self::TooManyLabels
            | Self::Starting
            | Self::StorageFull
            | Self::Stopping
            | Self::Busy => Some(("retry-after", "1".into())),
            _ => None,
        });
        refusal
    }
}
