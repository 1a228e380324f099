//! Parameters in the query of a request.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::of_pool::limits;
use super::state::Api;
use crate::config;
use crate::http::wire::{COUNT_MAX, Problem};
use crate::store::{Leasing, Store};

/// The query of `GET /keys`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct LeaseQuery {
    /// How long the lease lasts. A sum such as 1m30s is allowed, too
    #[param(nullable = false)]
    lease: Option<String>,
    /// How long to wait if no key is free. A request that had to wait gets at most 100 keys. A sum such as 1m30s is allowed, too
    #[param(nullable = false)]
    wait: Option<String>,
    /// How many keys to lease. Without it, one key is leased, and the answer has another form
    #[param(
        nullable = false,
        value_type = u64,
        minimum = 1,
        maximum = 100_000,
        required = false,
        example = 2
    )]
    count: Option<String>,
}

/// The query of `PUT /keys/{id}/lease`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RenewalQuery {
    /// How long the lease lasts from now on. A sum such as 1m30s is allowed, too
    #[param(nullable = false)]
    lease: Option<String>,
}

/// The query of `PUT /keys/{id}`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ReleaseQuery {
    /// How long the key cools down before it can be leased again. A sum such as 1m30s is allowed, too
    #[param(nullable = false)]
    cooldown: Option<String>,
}

/// `lease`: how long the lease lasts, in milliseconds.
pub(in crate::http) struct LeaseMs(pub(in crate::http) Option<u32>);

/// `lease`, `wait` and `count`: how many keys to lease, and how.
pub(in crate::http) struct LeaseRequest {
    pub(in crate::http) leasing: Leasing,
    /// How many keys to lease. Without it, one key is leased, and the answer has another form.
    pub(in crate::http) count: Option<usize>,
}

/// `cooldown`: how long the key cools down, in milliseconds; 0 for no cool-down.
pub(in crate::http) struct CooldownMs(pub(in crate::http) u32);

impl<S: Store> FromRequestParts<Api<S>> for LeaseMs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let RenewalQuery { lease } = read(parts).await?;
        duration("lease", lease.as_deref(), limits(parts, api).await?.lease_ms_max).map(Self)
    }
}

impl<S: Store> FromRequestParts<Api<S>> for LeaseRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let LeaseQuery { lease, wait, count } = read(parts).await?;
        let limits = limits(parts, api).await?;
        let lease_ms = duration("lease", lease.as_deref(), limits.lease_ms_max)?;
        let wait_ms = duration("wait", wait.as_deref(), limits.wait_ms_max)?.unwrap_or(0);
        let count = count.map(|text| match text.parse() {
            Ok(count) if (1..=COUNT_MAX).contains(&count) => Ok(count),
            _ => {
                let value = shown(&text);
                let detail = format!(
                    "count must be a number from 1 to {COUNT_MAX}, such as 10, not {value}."
                );
                Err(Problem::InvalidParameter { detail })
            }
        });
        Ok(Self { leasing: Leasing { lease_ms, wait_ms }, count: count.transpose()? })
    }
}

impl<S: Store> FromRequestParts<Api<S>> for CooldownMs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let ReleaseQuery { cooldown } = read(parts).await?;
        let max_ms = limits(parts, api).await?.cooldown_ms_max;
        let ms = duration("cooldown", cooldown.as_deref(), max_ms)?;
        Ok(Self(ms.unwrap_or(0)))
    }
}

pub(super) async fn read<T: DeserializeOwned>(parts: &mut Parts) -> Result<T, Problem> {
    let query = Query::<T>::from_request_parts(parts, &()).await;
    query.map(|Query(parameters)| parameters).map_err(|rejection: QueryRejection| {
        Problem::InvalidParameter { detail: rejection.body_text() }
    })
}

/// The beginning of a value, in quotes, for a message.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    format!("{:?}", text.chars().take(CHARS_MAX).collect::<String>())
}

/// Reads a duration from 1 ms to `max_ms` milliseconds.
///
/// # Errors
///
/// [`Problem::InvalidParameter`], which names the parameter, its value and the right form.
pub(in crate::http) fn duration(
    name: &str,
    text: Option<&str>,
    max_ms: u32,
) -> Result<Option<u32>, Problem> {
    let read = |text: &str| {
        config::parse_ms_up_to(text, max_ms).map_err(|what| Problem::InvalidParameter {
            detail: format!("{name} {what}, not {}.", shown(text)),
        })
    };
    text.map(read).transpose()
}
