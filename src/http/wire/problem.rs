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
            Error::TooManyWaiters => Problem::TooManyWaiters.refusal(),
            Error::Full { retry_after_ms } => Problem::PoolFull { retry_after_ms }.refusal(),
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
    MethodNotAllowed { allowed: &'static str },
    InvalidParameter { detail: String },
    MalformedIfMatch,
    MalformedBody { detail: String },
    NotLeased,
    Stale,
    TooManyWaiters,
    TooManyViewers,
    Stopping,
    Busy,
    Unauthorized { has_token: bool },
    Forbidden { role: &'static str },
    FromElsewhere,
    MalformedHost,
    ForeignHost { host: String },
    TransferCoding { is_known: bool },
    InvalidBody { expected: &'static str },
    BodyTooLarge { max: usize },
    BodyTimeout,
    PoolFull { retry_after_ms: u64 },
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
    detail: String,
}

impl Problem {
    pub(in crate::http) fn details(&self) -> Details {
        let (kind, status, title) = self.kind();
        let r#type = format!("/problems/{kind}");
        Details { r#type, title, status: status.as_u16(), detail: self.detail() }
    }

    /// The last part of its type, the status, and the title.
    fn kind(&self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::NoSuchPath => ("no-such-path", StatusCode::NOT_FOUND, "No such path"),
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
            Self::PoolFull { .. } => {
                ("pool-full", StatusCode::SERVICE_UNAVAILABLE, "The pool is full")
            }
            Self::Unavailable { .. } => {
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The store is not available")
            }
        }
    }

    /// What is wrong with this request, and what to do next.
    fn detail(&self) -> String {
        match self {
            Self::NoSuchPath => "Use a path of the API, such as /keys.".to_owned(),
            Self::MethodNotAllowed { allowed } => {
                format!("Use a method that this path allows: {allowed}.")
            }
            Self::InvalidParameter { detail } => detail.clone(),
            Self::MalformedBody { detail } => {
                format!("The body cannot be read: {detail}. Send a JSON object.")
            }
            Self::MalformedIfMatch => {
                "Send the ETag of the lease with its quotes, such as If-Match: \"7\", or a list of \
                 ETags, or *."
                    .to_owned()
            }
            Self::Stopping => {
                "Nothing was done. Send the request to another server, or try again later."
                    .to_owned()
            }
            Self::Busy => {
                "Nothing was done, because other large requests take all the memory for them. Try \
                 again after the time in Retry-After, or send a smaller request."
                    .to_owned()
            }
            Self::TooManyWaiters => {
                "No key is free, and the queue of waiting requests is full. Try \
                 again after the time in Retry-After."
                    .to_owned()
            }
            Self::TooManyViewers => {
                "Close a dashboard, or try again after the time in Retry-After.".to_owned()
            }
            Self::Unauthorized { has_token: false } => {
                "Send a token in one header field, such as Authorization: Bearer TOKEN.".to_owned()
            }
            Self::Unauthorized { has_token: true } => {
                "The server does not know the token that was sent. Send another one, or ask the \
                 operator for one."
                    .to_owned()
            }
            Self::Forbidden { role: "admin" } => {
                "This request needs a token with the role admin.".to_owned()
            }
            Self::Forbidden { role } => {
                format!("This request needs a token with the role {role} or admin.")
            }
            Self::FromElsewhere => {
                "A browser sent this request for a page of another site. Send it \
                 from a page of this server, or from a program."
                    .to_owned()
            }
            Self::MalformedHost => {
                "Send one Host with the name or the address of the server, such as \
                 Host: localhost:8080."
                    .to_owned()
            }
            Self::ForeignHost { host } => format!(
                "This server asks for no tokens, so requests must name it by an IP address, as \
                 localhost, or by a name that the operator has given: --allowed-host {host}."
            ),
            Self::TransferCoding { .. } => {
                "Send the body with Content-Length, or with Transfer-Encoding: chunked and no \
                 other coding."
                    .to_owned()
            }
            Self::NotLeased => {
                "Nothing was done, because there is no lease to renew. Lease a key with GET /keys."
                    .to_owned()
            }
            Self::Stale => {
                "Nothing was done, because the key no longer has the lease that If-Match \
                 names. Lease a key with GET /keys."
                    .to_owned()
            }
            Self::InvalidBody { expected } => (*expected).to_owned(),
            Self::BodyTooLarge { max } => {
                format!("Send at most {max} bytes, or divide the request into smaller ones.")
            }
            Self::BodyTimeout => "Send the whole body right after the head.".to_owned(),
            Self::PoolFull { .. } => {
                "No key was created, because the pool has no room for that many. \
                 Create fewer, or try again after the time in Retry-After."
                    .to_owned()
            }
            Self::Unavailable { .. } => {
                "The request may or may not have been carried out. Look at the \
                 key, or try again after the time in Retry-After."
                    .to_owned()
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
            Self::TooManyWaiters | Self::TooManyViewers | Self::Stopping | Self::Busy => {
                Some(("retry-after", "1".into()))
            }
            _ => None,
        });
        refusal
    }
}
