//! Why requests fail, in words.

use serde_json::{Map, Value, json};

use super::refusals;
use crate::pool::PoolName;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no answer. The server may have carried out the request.
    NoAnswer(String),
    Refused {
        status: u16,
        body: Value,
        /// In seconds.
        retry_after: Option<String>,
        /// The pool that the request has named.
        pool: Option<PoolName>,
    },
    /// According to the answers, the lease is over.
    Lost(String),
}

impl Failure {
    /// Whether the server itself says that the key, its pool or the lease does not exist. An intermediary may
    /// answer with the same status, but not with the same body.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::NoAnswer(_) => false,
            Self::Lost(_) => true,
            Self::Refused { status: 404, body, .. }
                if body.as_object().is_some_and(Map::is_empty) =>
            {
                true
            }
            Self::Refused { .. } => {
                matches!(self.kind(), Some("stale-lease" | "not-leased" | "no-such-pool"))
            }
        }
    }

    /// The kind of a refusal that the server explains: the last part of its type.
    pub(super) fn kind(&self) -> Option<&str> {
        let Self::Refused { body, .. } = self else { return None };
        body["type"].as_str()?.strip_prefix("/problems/")
    }

    /// What the server says of this refusal, if it explains it.
    pub(super) fn detail(&self) -> Option<&str> {
        let Self::Refused { body, .. } = self else { return None };
        body["detail"].as_str()
    }

    /// The message for people, in one line. `not_found` explains a 404 without details.
    pub(super) fn message(&self, not_found: &str) -> String {
        match self {
            Self::NoAnswer(why) => format!("{why}."),
            Self::Lost(why) => why.clone(),
            Self::Refused { body, status, retry_after, pool } => {
                let text = |name: &str| body[name].as_str();
                let what = match (status, text("title"), text("detail")) {
                    // What the server says of it is about header fields.
                    (401, ..) => {
                        "the server wants a token that it knows: give one with --token-file \
                                  FILE, or in TOKEN_ORCHESTRATOR_TOKEN."
                            .to_owned()
                    }
                    (_, Some(title), Some(detail)) => {
                        refusals::in_words(self.kind(), title, detail, pool.as_ref())
                    }
                    (404, ..) => not_found.to_owned(),
                    (403, ..) => {
                        "the token does not allow this request: use a token with another role, \
                                  such as admin."
                            .to_owned()
                    }
                    (300..=399, ..) => format!(
                        "the server answered {status}, and redirects are not followed: give the address \
                         that it redirects to with --server URL."
                    ),
                    _ => format!(
                        "the server answered {status}: check that --server is the address of a \
                         token-orchestrator, such as http://localhost:8080."
                    ),
                };
                let when = retry_after.as_ref().map(|s| format!(" Try again in {s} s."));
                format!("{what}{}", when.unwrap_or_default())
            }
        }
    }

    /// The failure as a JSON object. `not_found` explains a 404 without details.
    pub(super) fn json(&self, not_found: &str) -> Value {
        match self {
            Self::Refused { body, .. } if body["type"].is_string() => body.clone(),
            Self::Refused { status, .. } => {
                json!({"status": status, "detail": self.message(not_found)})
            }
            Self::NoAnswer(_) | Self::Lost(_) => {
                json!({"detail": self.message(not_found)})
            }
        }
    }
}
