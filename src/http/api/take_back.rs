//! Taking back all that one holder has.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::of_pool::OfPool;
use super::query::{read, read_holder};
use super::state::Api;
use crate::http::audit::Subject;
use crate::http::wire::{Problem, json};
use crate::key::Holder;
use crate::store::Store;

/// The query of `DELETE /leases`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct TakeBackQuery {
    /// Whose leases end
    #[param(value_type = String, required = true, pattern = "^[!-~]{1,64}$", example = "worker-7")]
    holder: Option<String>,
}

/// What was taken back.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct TakenBack {
    /// How many leases have ended.
    #[schema(example = 3)]
    released: u64,
}

/// Takes back all leases of a holder
///
/// For a worker that has died: all keys that it has leased are free. Their leases are over, so that what it may still
/// send with `If-Match` is refused.
#[utoipa::path(
    delete, path = "/leases", operation_id = "takeBackLeases", tag = "pool",
    params(TakeBackQuery),
    responses((status = 200, description = "Taken back", body = TakenBack)),
)]
pub(in crate::http) async fn take_back<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    Name(holder): Name,
) -> Response {
    let released = match api.store.take_back_from(pool, holder.name()).await {
        Ok(released) => released,
        Err(error) => return error.into_response(),
    };
    let body = serde_json::to_vec(&TakenBack { released }).expect("a number");
    let mut response = json(StatusCode::OK, body);
    api.note(&mut response, Subject::Many(usize::try_from(released).unwrap_or(usize::MAX)));
    response
}

/// `holder`.
pub(in crate::http) struct Name(Holder);

impl<S: Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let TakeBackQuery { holder } = read(parts).await?;
        let Some(holder) = holder else {
            let detail = "Say whose leases are to end, such as ?holder=worker-7.".to_owned();
            return Err(Problem::InvalidParameter { detail });
        };
        read_holder(&holder).map(Self)
    }
}
