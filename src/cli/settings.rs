//! The settings of a pool: as options, as the server has them, and in words.

use serde_json::{Map, Value};

use crate::config::{parse_delay_ms, parse_key_ttl_ms, parse_keys_max, parse_max_ms};

/// How an endless life is written.
const NEVER: &str = "never";

/// What the server calls each setting, with its option.
const OPTIONS: [(&str, &str); 7] = [
    ("keyTtl", "--key-ttl"),
    ("leaseTtl", "--lease-ttl"),
    ("maxLease", "--max-lease"),
    ("maxCooldown", "--max-cooldown"),
    ("maxWait", "--max-wait"),
    ("lapseCooldown", "--lapse-cooldown"),
    ("maxKeys", "--max-keys"),
];

/// The settings that the user names.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// How long a key lives without a keep-alive, such as 5m, or never for keys that live until they are
    /// deleted
    #[arg(long, value_name = "DURATION", value_parser = key_ttl)]
    key_ttl: Option<String>,
    /// How long a lease lasts unless a request says otherwise, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lease_ttl: Option<String>,
    /// The longest lease that a request may ask for, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_lease: Option<String>,
    /// The longest cool-down that a request may ask for, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_cooldown: Option<String>,
    /// The longest that a request may wait for a key, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_wait: Option<String>,
    /// How long a key cools down after a lease that timed out, such as 30s, or 0s for not at all
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    lapse_cooldown: Option<String>,
    /// How many keys the pool may contain at once, up to what the server allows
    #[arg(long, value_name = "NUMBER", value_parser = parse_keys_max)]
    max_keys: Option<usize>,
}

impl Settings {
    /// Those that the user names, as a request has them. O(1).
    pub(super) fn named(self) -> Map<String, Value> {
        let values = [
            self.key_ttl.map(Value::from),
            self.lease_ttl.map(Value::from),
            self.max_lease.map(Value::from),
            self.max_cooldown.map(Value::from),
            self.max_wait.map(Value::from),
            self.lapse_cooldown.map(Value::from),
            self.max_keys.map(Value::from),
        ];
        let named = OPTIONS.into_iter().zip(values);
        named.filter_map(|((field, _), value)| Some((field.to_owned(), value?))).collect()
    }
}

fn key_ttl(text: &str) -> Result<String, String> {
    if text == NEVER {
        return Ok(text.to_owned());
    }
    let checked = parse_key_ttl_ms(text).map(|_| text.to_owned());
    checked.map_err(|what| format!("{what}, or {NEVER}"))
}

fn duration(text: &str) -> Result<String, String> {
    parse_max_ms(text).map(|_| text.to_owned())
}

fn delay(text: &str) -> Result<String, String> {
    parse_delay_ms(text).map(|_| text.to_owned())
}

/// A text of the server with options in place of its names for settings. O(length).
pub(super) fn with_options(text: &str) -> String {
    OPTIONS.iter().fold(text.to_owned(), |text, (field, option)| text.replace(field, option))
}

/// Each setting in a line of its own, with the option that changes it. Those that this version does not know go by
/// their names in the answer. O(length).
pub(super) fn in_words(settings: &Value) -> String {
    let option = |field: &str| {
        let known = OPTIONS.iter().find(|(known, _)| *known == field);
        known.map_or_else(|| field.to_owned(), |(_, option)| (*option).to_owned())
    };
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let settings = settings.as_object().into_iter().flatten();
    let lines: Vec<_> = settings.map(|(field, value)| (option(field), shown(value))).collect();
    let width = lines.iter().map(|(option, _)| option.chars().count()).max().unwrap_or(0);
    let lines = lines.iter().map(|(option, value)| format!("\n  {option:<width$}  {value}"));
    format!("settings{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_shown_with_their_options() {
        let settings =
            json!({"keyTtl": "never", "lapseCooldown": "0s", "maxKeys": 1000, "colour": null});
        assert_eq!(
            in_words(&settings),
            "settings\n  --key-ttl         never\n  --lapse-cooldown  0s\n  --max-keys        1000\n  \
             colour            null"
        );
    }

    #[test]
    fn an_endless_life_is_one_of_a_key_only() {
        assert_eq!((key_ttl("never"), key_ttl("365d")), (Ok("never".into()), Ok("365d".into())));
        assert!(key_ttl("soon").unwrap_err().ends_with("such as 60s, 1500ms or 5m, or never"));
        assert!(duration("never").is_err() && delay("never").is_err() && delay("0s").is_ok());
    }
}
