//! Room for keys that are created or imported, in an answer and in the pool.

use axum::response::{IntoResponse, Response};

use super::state::Api;
use crate::error::Error;
use crate::http::wire::Problem;
use crate::key::KeyId;
use crate::pool::PoolId;
use crate::store::Store;

/// The size of a created key and its text, in bytes.
pub(super) const CREATED_BYTES: usize = size_of::<KeyId>() + KeyId::TEXT_LEN + 3;

/// The answer to a creation that was refused. One that is larger than the pool never has room.
pub(super) async fn refusal<S: Store>(
    api: &Api<S>,
    pool: PoolId,
    count: usize,
    error: Error,
) -> Response {
    if matches!(error, Error::Full { .. })
        && let Ok(stats) = api.store.stats_of(pool).await
        && count as u64 > stats.keys_max
    {
        return Problem::LargerThanPool { max: stats.keys_max }.response();
    }
    error.into_response()
}
