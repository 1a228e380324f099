//! Parameters in the query of a request.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::limits::Limits;
use super::of_pool::within_limits;
use super::state::Api;
use crate::config;
use crate::http::wire::{COUNT_MAX, Problem};
use crate::key::{Holder, Label};
use crate::pool::PoolName;
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
    /// A label that the key must have: its name, a colon, and its value, such as `plan:pro`
    #[param(nullable = false, format = "label", pattern = "^[^:]{1,63}:.{1,63}$")]
    label: Option<String>,
    /// Who leases the key, to be shown as its holder. Without it, the name of the token
    #[param(nullable = false, pattern = "^[!-~]{1,64}$", example = "worker-7")]
    holder: Option<String>,
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

/// The query of `GET /dashboard/events`.
#[derive(Deserialize)]
struct EventsQuery {
    pool: Option<String>,
}

/// `lease`: how long the lease lasts, in milliseconds.
pub(in crate::http) struct LeaseMs(pub(in crate::http) Option<u32>);

/// `lease`, `wait` and `count`: how many keys to lease, and how.
pub(in crate::http) struct LeaseRequest {
    /// As the request says; its key is that of what it says.
    pub(in crate::http) leasing: Leasing,
    /// Who holds the lease if the request names nobody.
    of_token: Option<Holder>,
    /// How many keys to lease. Without it, one key is leased, and the answer has another form.
    pub(in crate::http) count: Option<usize>,
}

impl LeaseRequest {
    /// How the keys are leased, with the holder that the token names.
    pub(in crate::http) fn held(self) -> Leasing {
        let Self { mut leasing, of_token, .. } = self;
        if let Some(holder) = &of_token {
            leasing.hold_with(holder);
        }
        leasing
    }
}

/// `cooldown`: how long the key cools down, in milliseconds; 0 for no cool-down.
pub(in crate::http) struct CooldownMs(pub(in crate::http) u32);

impl<S: Store> FromRequestParts<Api<S>> for LeaseMs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let RenewalQuery { lease } = read(parts).await?;
        let read = |limits: Limits| duration("lease", lease.as_deref(), limits.lease_ms_max);
        within_limits(parts, api, read).await.map(Self)
    }
}

impl<S: Store> FromRequestParts<Api<S>> for LeaseRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let LeaseQuery { lease, wait, label, holder, count } = read(parts).await?;
        let read = |limits: Limits| {
            let lease_ms = duration("lease", lease.as_deref(), limits.lease_ms_max)?;
            Ok((lease_ms, duration("wait", wait.as_deref(), limits.wait_ms_max)?.unwrap_or(0)))
        };
        let (lease_ms, wait_ms) = within_limits(parts, api, read).await?;
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
        let label = label.as_deref().map(read_label).transpose()?;
        let holder = holder.as_deref().map(read_holder).transpose()?;
        let leasing = Leasing { lease_ms, wait_ms, label, holder };
        let of_token = parts.extensions.get().cloned();
        Ok(Self { leasing, count: count.transpose()?, of_token })
    }
}

impl<S: Store> FromRequestParts<Api<S>> for CooldownMs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api<S>) -> Result<Self, Problem> {
        let ReleaseQuery { cooldown } = read(parts).await?;
        let read =
            |limits: Limits| duration("cooldown", cooldown.as_deref(), limits.cooldown_ms_max);
        Ok(Self(within_limits(parts, api, read).await?.unwrap_or(0)))
    }
}

/// `pool` of `GET /dashboard/events`: the name of the pool to watch, if the request names one. O(length of the query).
///
/// # Errors
///
/// [`Problem::InvalidParameter`]
pub(in crate::http) fn watched_pool(uri: &Uri) -> Result<Option<String>, Problem> {
    let query = Query::try_from_uri(uri).map_err(|rejection| unreadable(&rejection))?;
    let Query(EventsQuery { pool }) = query;
    match pool {
        Some(name) if !PoolName::is_valid(&name) => {
            let detail = format!("pool must be {}, not {}.", PoolName::FORM, shown(&name));
            Err(Problem::InvalidParameter { detail })
        }
        pool => Ok(pool),
    }
}

pub(super) async fn read<T: DeserializeOwned>(parts: &mut Parts) -> Result<T, Problem> {
    let query = Query::<T>::from_request_parts(parts, &()).await;
    query.map(|Query(parameters)| parameters).map_err(|rejection| unreadable(&rejection))
}

fn unreadable(rejection: &QueryRejection) -> Problem {
    Problem::InvalidParameter { detail: rejection.body_text() }
}

/// Reads a label. O(length).
///
/// # Errors
///
/// [`Problem::InvalidParameter`]
pub(super) fn read_label(text: &str) -> Result<Label, Problem> {
    Label::parse(text).ok_or_else(|| Problem::InvalidParameter {
        detail: format!(
            "label must be a name, a colon and a value, the name and the value with 1 to {} characters each, such as \
             plan:pro, not {}.",
            Label::CHARS_MAX,
            shown(text)
        ),
    })
}

/// Reads the name of a holder. O(length).
///
/// # Errors
///
/// [`Problem::InvalidParameter`]
pub(super) fn read_holder(text: &str) -> Result<Holder, Problem> {
    Holder::new(text, None).ok_or_else(|| Problem::InvalidParameter {
        detail: format!(
            "holder must have 1 to {} ASCII characters without spaces, such as worker-7, not {}.",
            Holder::CHARS_MAX,
            shown(text)
        ),
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
