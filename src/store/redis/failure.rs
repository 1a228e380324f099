//! How calls of the engine fail.

use std::time::Duration;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::Error;

/// A shard does not answer. After so long it may.
pub(super) const UNAVAILABLE: Error = Error::Unavailable { retry_after_ms: 1000 };

/// After how long a call is repeated that has failed.
pub(super) const REPEAT_AFTER: Duration = Duration::from_millis(5);

/// Why a call has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not carried out.
    Refused,
    /// It was not carried out, as the engine has no memory left.
    Full,
    /// It is not known whether it was carried out.
    Unknown,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::StorageFull,
            Failure::Refused | Failure::Unknown => UNAVAILABLE,
        }
    }
}

/// Whether the engine does not have the library.
pub(super) fn is_unloaded(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}

/// What an error means for the call.
pub(super) fn failure(error: &RedisError) -> Failure {
    let text = error.to_string();
    let failure = match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::CrossSlot
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::NoPerm,
        )
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound => Failure::Refused,
        _ if text.contains("OOM") => Failure::Full,
        _ if text.contains("NOREPLICAS") || text.contains("MISCONF") => Failure::Refused,
        _ => Failure::Unknown,
    };
    tracing::debug!("a call of the store has failed ({failure:?}): {text}");
    failure
}
