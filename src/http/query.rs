//! Parameters in the query of a request, and within which limits they are taken.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::Api;
use super::error::Problem;
use super::pool::COUNT_MAX;
use crate::config;
use crate::store::Leasing;

/// The longest times that requests may ask for, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A lease.
    pub lease_ms_max: u32,
    /// A cool-down.
    pub cooldown_ms_max: u32,
    /// Waiting for a key.
    pub wait_ms_max: u32,
}

impl Limits {
    /// One hour.
    pub const COOLDOWN_MS_MAX: u32 = 60 * 60 * 1000;
    /// One minute.
    pub const WAIT_MS_MAX: u32 = 60 * 1000;
}

impl Default for Limits {
    /// A lease of one minute, as the problem statement wants, a cool-down of one hour, and one
    /// minute to wait.
    fn default() -> Self {
        Self {
            lease_ms_max: 60 * 1000,
            cooldown_ms_max: Self::COOLDOWN_MS_MAX,
            wait_ms_max: Self::WAIT_MS_MAX,
        }
    }
}

/// The query of `GET /keys`. What else is in a query means nothing.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LeaseQuery {
    /// How long the lease lasts. A sum such as 1m30s is read as well
    #[param(nullable = false)]
    lease: Option<String>,
    /// How long to wait for a key at most; who had to wait gets at most 100. A sum such as 1m30s is read as well
    #[param(nullable = false)]
    wait: Option<String>,
    /// How many keys; without it one, which is answered in another form
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
pub(super) struct RenewalQuery {
    /// How long the lease lasts from now on. A sum such as 1m30s is read as well
    #[param(nullable = false)]
    lease: Option<String>,
}

/// The query of `PUT /keys/{id}`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ReleaseQuery {
    /// How long the key rests before it is served again. A sum such as 1m30s is read as well
    #[param(nullable = false)]
    cooldown: Option<String>,
}

/// `lease`: for how long, in milliseconds.
pub(super) struct LeaseMs(pub(super) Option<u32>);

/// `lease`, `wait` and `count`: how keys are leased.
pub(super) struct Wanted {
    pub(super) leasing: Leasing,
    /// How many; without it one, which is answered in another form.
    pub(super) count: Option<usize>,
}

/// `cooldown`: for how long, in milliseconds; 0 for none.
pub(super) struct CooldownMs(pub(super) u32);

impl<S: Send + Sync> FromRequestParts<Api<S>> for LeaseMs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let RenewalQuery { lease } = read(parts).await?;
        duration("lease", lease.as_deref(), api.limits.lease_ms_max).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<Api<S>> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let LeaseQuery { lease, wait, count } = read(parts).await?;
        let lease_ms = duration("lease", lease.as_deref(), api.limits.lease_ms_max)?;
        let wait_ms = duration("wait", wait.as_deref(), api.limits.wait_ms_max)?.unwrap_or(0);
        let count = count.map(|text| match text.parse() {
            Ok(count) if (1..=COUNT_MAX).contains(&count) => Ok(count),
            _ => {
                let detail = format!("count must be a number from 1 to {COUNT_MAX}.");
                Err(Problem::InvalidParameter { detail })
            }
        });
        Ok(Self { leasing: Leasing { lease_ms, wait_ms }, count: count.transpose()? })
    }
}

impl<S: Send + Sync> FromRequestParts<Api<S>> for CooldownMs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let ReleaseQuery { cooldown } = read(parts).await?;
        let ms = duration("cooldown", cooldown.as_deref(), api.limits.cooldown_ms_max)?;
        Ok(Self(ms.unwrap_or(0)))
    }
}

async fn read<T: DeserializeOwned>(parts: &mut Parts) -> Result<T, Problem> {
    let query = Query::<T>::from_request_parts(parts, &()).await;
    query.map(|Query(parameters)| parameters).map_err(|rejection: QueryRejection| {
        Problem::InvalidParameter { detail: rejection.body_text() }
    })
}

/// Reads a duration from 1 ms to `max_ms` milliseconds.
pub(super) fn duration(
    name: &str,
    text: Option<&str>,
    max_ms: u32,
) -> Result<Option<u32>, Problem> {
    text.map(|text| config::parse_ms_up_to(text, max_ms))
        .transpose()
        .map_err(|what| Problem::InvalidParameter { detail: format!("{name} {what}.") })
}
