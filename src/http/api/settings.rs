//! The settings of a pool, as requests and answers have them.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::creation::whole;
use super::query::shown;
use crate::config;
use crate::http::wire::Problem;
use crate::pool::Settings;

/// How an endless life is written.
const NEVER: &str = "never";

/// The settings in a request. What is left out is as the server has it by default.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Given {
    /// How long a key lives without a keep-alive, or `never` if it lives until it is deleted
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "never")]
    key_ttl: Option<String>,
    /// How long a lease lasts unless a request says otherwise
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "60s")]
    lease_ttl: Option<String>,
    /// The longest lease that a request may ask for
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "10m")]
    max_lease: Option<String>,
    /// The longest cool-down that a request may ask for
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "1h")]
    max_cooldown: Option<String>,
    /// The longest that a request may wait for a key
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "60s")]
    max_wait: Option<String>,
    /// How long a key cools down after a lease that timed out; `0s` for not at all
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "30s")]
    lapse_cooldown: Option<String>,
    /// How many keys the pool may contain at once
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, minimum = 1, example = 1000)]
    max_keys: Option<u64>,
}

/// A field that may be left out, but not be `null`.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    String::deserialize(field).map(Some)
}

impl Given {
    /// The right form of a body.
    pub(in crate::http) const EXPECTED: &str = "Send an object with any of the fields keyTtl, leaseTtl, maxLease, maxCooldown, \
         maxWait, lapseCooldown and maxKeys, such as {\"keyTtl\":\"never\",\"leaseTtl\":\"60s\",\"maxKeys\":1000}, or no body. No \
         other field is allowed.";

    /// All settings, those that are left out as in `default`.
    ///
    /// # Errors
    ///
    /// [`Problem::InvalidSettings`], which names the setting and the right form.
    pub(in crate::http) fn settings(&self, default: &Settings) -> Result<Settings, Problem> {
        let key_ttl_ms = match self.key_ttl.as_deref() {
            Some(NEVER) => None,
            Some(text) => Some(read("keyTtl", text, |text| {
                config::parse_key_ttl_ms(text).map_err(|what| format!("{what}, or {NEVER}"))
            })?),
            None => default.key_ttl_ms,
        };
        let time = |name, text: &Option<String>, default| match text {
            Some(text) => read(name, text, config::parse_max_ms),
            None => Ok(default),
        };
        let lease_ttl_ms = time("leaseTtl", &self.lease_ttl, default.lease_ttl_ms)?;
        let lease_ms_max =
            time("maxLease", &self.max_lease, default.lease_ms_max.max(lease_ttl_ms))?;
        if lease_ms_max < lease_ttl_ms {
            let least = display(u64::from(lease_ttl_ms));
            let detail =
                format!("maxLease must not be shorter than leaseTtl: set it to {least}, or more.");
            return Err(Problem::InvalidSettings { detail });
        }
        let lapse_cooldown_ms = match &self.lapse_cooldown {
            Some(text) => read("lapseCooldown", text, config::parse_delay_ms)?,
            None => default.lapse_cooldown_ms,
        };
        let keys_max = match self.max_keys.map(usize::try_from) {
            None => default.keys_max,
            Some(Ok(keys)) if (1..=default.keys_max).contains(&keys) => keys,
            Some(_) => {
                let detail = format!(
                    "maxKeys must be a number from 1 to {}, which the server sets with --max-keys.",
                    default.keys_max
                );
                return Err(Problem::InvalidSettings { detail });
            }
        };
        Ok(Settings {
            key_ttl_ms,
            lease_ttl_ms,
            lease_ms_max,
            cooldown_ms_max: time("maxCooldown", &self.max_cooldown, default.cooldown_ms_max)?,
            wait_ms_max: time("maxWait", &self.max_wait, default.wait_ms_max)?,
            lapse_cooldown_ms,
            keys_max,
        })
    }
}

fn read<T>(
    name: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Problem> {
    parse(text).map_err(|what| Problem::InvalidSettings {
        detail: format!("{name} {what}, not {}.", shown(text)),
    })
}

/// The settings in an answer.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Shown {
    /// How long a key lives without a keep-alive, or `never` if it lives until it is deleted
    #[schema(example = "never")]
    key_ttl: String,
    /// How long a lease lasts unless a request says otherwise
    #[schema(example = "1m")]
    lease_ttl: String,
    /// The longest lease that a request may ask for
    #[schema(example = "10m")]
    max_lease: String,
    /// The longest cool-down that a request may ask for
    #[schema(example = "1h")]
    max_cooldown: String,
    /// The longest that a request may wait for a key
    #[schema(example = "1m")]
    max_wait: String,
    /// How long a key cools down after a lease that timed out; `0s` for not at all
    #[schema(example = "30s")]
    lapse_cooldown: String,
    /// How many keys the pool may contain at once
    #[schema(example = 1000)]
    max_keys: u64,
}

impl From<Settings> for Shown {
    fn from(settings: Settings) -> Self {
        let time = |ms: u32| display(u64::from(ms));
        Self {
            key_ttl: settings.key_ttl_ms.map_or_else(|| NEVER.to_owned(), display),
            lease_ttl: time(settings.lease_ttl_ms),
            max_lease: time(settings.lease_ms_max),
            max_cooldown: time(settings.cooldown_ms_max),
            max_wait: time(settings.wait_ms_max),
            lapse_cooldown: time(settings.lapse_cooldown_ms),
            max_keys: settings.keys_max as u64,
        }
    }
}

/// A duration as requests may send it.
fn display(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(24 * 60 * 60 * 1000, "d"), (60 * 60 * 1000, "h"), (60 * 1000, "m"), (1000, "s")];
    let whole = UNITS.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(body: &str) -> Result<Settings, String> {
        let given: Given = serde_json::from_str(body).unwrap();
        given.settings(&Settings::default()).map_err(|problem| match problem {
            Problem::InvalidSettings { detail } => detail,
            _ => unreachable!("settings are wrong or right"),
        })
    }

    #[test]
    fn what_is_left_out_is_as_the_server_has_it() {
        assert_eq!(settings("{}"), Ok(Settings::default()));
        let own = settings(r#"{"keyTtl":"never","lapseCooldown":"5s","maxKeys":7}"#).unwrap();
        let expected = Settings {
            key_ttl_ms: None,
            lapse_cooldown_ms: 5000,
            keys_max: 7,
            ..Settings::default()
        };
        assert_eq!(own, expected);
    }

    #[test]
    fn a_longer_lease_ttl_needs_no_longer_limit() {
        let own = settings(r#"{"leaseTtl":"2m"}"#).unwrap();
        assert_eq!((own.lease_ttl_ms, own.lease_ms_max), (120_000, 120_000));
        let own = settings(r#"{"leaseTtl":"1s"}"#).unwrap();
        assert_eq!((own.lease_ttl_ms, own.lease_ms_max), (1000, 60_000));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (body, says) in [
            (
                r#"{"keyTtl":"0s"}"#,
                "keyTtl must be a duration from 1ms to 365d, such as 60s, or never, not \"0s\".",
            ),
            (
                r#"{"leaseTtl":"1"}"#,
                "leaseTtl must be a duration such as 60s, 1500ms or 5m, not \"1\".",
            ),
            (
                r#"{"leaseTtl":"2s","maxLease":"1s"}"#,
                "maxLease must not be shorter than leaseTtl: set it to 2s, or more.",
            ),
            (
                r#"{"lapseCooldown":"31d"}"#,
                "lapseCooldown must be a duration from 1ms to 30d, such as 60s; or 0s, not \"31d\".",
            ),
            (
                r#"{"maxKeys":0}"#,
                "maxKeys must be a number from 1 to 10000000, which the server sets with --max-keys.",
            ),
            (
                r#"{"maxKeys":10000001}"#,
                "maxKeys must be a number from 1 to 10000000, which the server sets with --max-keys.",
            ),
        ] {
            assert_eq!(settings(body), Err(says.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_is_shown_can_be_sent() {
        let day_ms = 24 * 60 * 60 * 1000;
        for (ms, text) in [
            (1, "1ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (90 * 60 * 1000, "90m"),
            (30 * day_ms, "30d"),
        ] {
            let most = u32::try_from(ms).unwrap();
            let own = Settings {
                key_ttl_ms: Some(u64::from(most)),
                lease_ttl_ms: most,
                lease_ms_max: most,
                cooldown_ms_max: most,
                wait_ms_max: most,
                lapse_cooldown_ms: most,
                keys_max: 7,
            };
            let shown = serde_json::to_string(&Shown::from(own)).unwrap();
            assert_eq!(settings(&shown), Ok(own));
            assert_eq!(shown.matches(&format!("\"{text}\"")).count(), 6, "{shown}");
        }
        for key_ttl_ms in [None, Some(365 * day_ms), Some(1 + 90 * day_ms)] {
            let own = Settings { key_ttl_ms, ..Settings::default() };
            let shown = serde_json::to_string(&Shown::from(own)).unwrap();
            assert_eq!(settings(&shown), Ok(own));
        }
    }
}
