//! Refusals: the one map from errors to statuses and bodies.

use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::response::{json, respond};
use crate::error::Error;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            // As the problem statement wants it.
            Self::NotFound | Self::Exhausted => json(StatusCode::NOT_FOUND, "{}"),
            Self::NotLeased => Problem::NotLeased.response(),
            Self::Stale => Problem::Stale.response(),
            Self::TooManyWaiters => Problem::TooManyWaiters.response(),
            Self::Full { retry_after_ms } => Problem::PoolFull { retry_after_ms }.response(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}

/// The media type of a refusal.
pub(in crate::http) const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal that the problem statement does not know, told as RFC 9457 says.
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
    InvalidBody { expected: &'static str },
    BodyTooLarge { max: usize },
    BodyTimeout,
    PoolFull { retry_after_ms: u64 },
}

/// A refusal, as RFC 9457 says.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Details {
    /// What was refused, for programs: it stays the same from version to version.
    #[schema(format = "uri-reference")]
    pub(in crate::http) r#type: String,
    /// The same, for people.
    pub(in crate::http) title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub(in crate::http) status: u16,
    /// What is wrong here.
    detail: String,
}

impl Problem {
    pub(in crate::http) fn details(&self) -> Details {
        let (kind, status, title) = match self {
            Self::NoSuchPath => ("no-such-path", StatusCode::NOT_FOUND, "No such path"),
            Self::MethodNotAllowed { .. } => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Self::InvalidParameter { .. } => {
                ("invalid-parameter", StatusCode::BAD_REQUEST, "A parameter is out of place")
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
            Self::TooManyWaiters => {
                ("too-many-waiters", StatusCode::SERVICE_UNAVAILABLE, "Too many wait for a key")
            }
            Self::TooManyViewers => {
                ("too-many-viewers", StatusCode::SERVICE_UNAVAILABLE, "Too many watch the page")
            }
            Self::Unauthorized { .. } => {
                ("unauthorized", StatusCode::UNAUTHORIZED, "A token is needed")
            }
            Self::Forbidden { .. } => {
                ("forbidden", StatusCode::FORBIDDEN, "The role of the token does not allow it")
            }
            Self::FromElsewhere => {
                ("cross-site", StatusCode::FORBIDDEN, "The request comes from another site")
            }
            Self::MalformedBody { .. } => {
                ("malformed-body", StatusCode::BAD_REQUEST, "The body is malformed")
            }
            Self::InvalidBody { .. } => (
                "invalid-body",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The body does not say what to do",
            ),
            Self::BodyTooLarge { .. } => {
                ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large")
            }
            Self::BodyTimeout => {
                ("body-timeout", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")
            }
            Self::PoolFull { .. } => {
                ("pool-full", StatusCode::SERVICE_UNAVAILABLE, "The pool has no room")
            }
        };
        let detail = match self {
            Self::NoSuchPath => "See the table of paths in the documentation.".to_owned(),
            Self::MethodNotAllowed { allowed } => format!("This path knows {allowed}."),
            Self::InvalidParameter { detail } | Self::MalformedBody { detail } => detail.clone(),
            Self::MalformedIfMatch => {
                "A list of entity tags is expected, such as \"7\", or *.".to_owned()
            }
            Self::Stopping => "Ask another, or the same when it is back.".to_owned(),
            Self::Busy => "There is no room for it now; nothing was done.".to_owned(),
            Self::TooManyWaiters => "No key is free, and as many wait as may.".to_owned(),
            Self::TooManyViewers => "Come back when another has closed it.".to_owned(),
            Self::Unauthorized { has_token: false } => {
                "Send Authorization: Bearer and a token.".to_owned()
            }
            Self::Unauthorized { has_token: true } => {
                "Nobody here has the token that was sent.".to_owned()
            }
            Self::Forbidden { role: "admin" } => "It takes the role admin.".to_owned(),
            Self::Forbidden { role } => format!("It takes the role {role} or admin."),
            Self::FromElsewhere => "A page of another site has sent it.".to_owned(),
            Self::NotLeased => "There is no lease to renew.".to_owned(),
            Self::Stale => {
                "The key has moved on from what If-Match names; nothing was done.".to_owned()
            }
            Self::InvalidBody { expected } => (*expected).to_owned(),
            Self::BodyTooLarge { max } => format!("At most {max} bytes are read."),
            Self::BodyTimeout => "Send the body right behind its head.".to_owned(),
            Self::PoolFull { .. } => "No key was created: there is no room for all.".to_owned(),
        };
        let r#type = format!("/problems/{kind}");
        Details { r#type, title, status: status.as_u16(), detail }
    }

    pub(in crate::http) fn response(self) -> Response {
        let details = self.details();
        let status = StatusCode::from_u16(details.status).expect("a status");
        let body = serde_json::to_vec(&details).expect("strings and a number");
        let mut response = respond(status, PROBLEM_JSON, body.into());
        let headers = response.headers_mut();
        match self {
            Self::MethodNotAllowed { allowed } => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::PoolFull { retry_after_ms } => {
                headers.insert(RETRY_AFTER, retry_after_ms.div_ceil(1000).max(1).into());
            }
            Self::Unauthorized { has_token } => {
                let challenge = if has_token {
                    r#"Bearer realm="token-orchestrator", error="invalid_token""#
                } else {
                    r#"Bearer realm="token-orchestrator""#
                };
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Self::TooManyWaiters | Self::TooManyViewers | Self::Stopping | Self::Busy => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
