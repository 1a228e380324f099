//! Values of the configuration, read and validated.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// The longest lease: a record keeps its milliseconds in 32 bits.
const LEASE_MAX_DAYS: u64 = 30;
/// The largest file of tokens, certificates or keys that is read, in bytes. Usual ones have some kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The longest name of a host, in bytes.
const HOST_MAX: usize = 253;
/// The longest life.
const LIFE_MAX_DAYS: u64 = 365;

/// Reads a file of at most 1 MiB. O(length).
///
/// # Errors
///
/// If the file cannot be read, is larger, or is not a regular file. The message names the file.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let read = || {
        let mut content = Vec::new();
        // Reading a pipe could block for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        // The length is checked while reading, because the file may grow.
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
        }
        Ok(content)
    };
    read().map_err(|error| unusable(path, &error))
}

/// An error that names a file and says what is wrong with it. O(length of the message).
pub fn unusable(path: &Path, what: &dyn fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot use {}: {what}", path.display()))
}

/// Reads the name of a host, such as `keys.example.com`. In lower case, and without a dot at the end. O(length).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || name.len() > HOST_MAX || !name.bytes().all(is_of_name) {
        return Err("must be a name without scheme and port, such as keys.example.com".to_owned());
    }
    Ok(name)
}

/// Reads how long a key lives, such as `5m`: from 1 ms to 365 days. In milliseconds. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_key_ttl_ms(text: &str) -> Result<u64, String> {
    parse_ms(text, LIFE_MAX_DAYS)
}

/// Reads how long a lease lasts, such as `60s`: from 1 ms to 30 days. In milliseconds. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_lease_ttl_ms(text: &str) -> Result<u32, String> {
    parse_ms(text, LEASE_MAX_DAYS)
}

/// Reads a limit on durations, such as `1h`: from 1 ms to 30 days. In milliseconds. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_max_ms(text: &str) -> Result<u32, String> {
    parse_ms(text, LEASE_MAX_DAYS)
}

/// Reads a delay, such as `5s`: `0s` for none, or from 1 ms to 30 days. In milliseconds. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_delay_ms(text: &str) -> Result<u32, String> {
    if text == "0s" {
        return Ok(0);
    }
    parse_max_ms(text).map_err(|what| format!("{what}; or 0s"))
}

/// Reads a duration from 1 ms to `max_ms` milliseconds. In milliseconds. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_ms_up_to(text: &str, max_ms: u32) -> Result<u32, String> {
    let max = humantime::format_duration(Duration::from_millis(u64::from(max_ms)));
    parse_ms(text, LEASE_MAX_DAYS).ok().filter(|ms| *ms <= max_ms).ok_or_else(|| {
        format!("must be a whole number of milliseconds from 1ms to {max}, such as 1500ms or 5s")
    })
}

/// Reads whether something is switched on: `true` or `false`, `yes` or `no`, `on` or `off`, `1` or `0`. O(1).
///
/// # Errors
///
/// A message that says what the text must be.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Reads a number of shards: a power of two from 2 to 4096. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_shards(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(shards) if shards.is_power_of_two() && (2..=4096).contains(&shards) => Ok(shards),
        _ => Err("must be a power of two from 2 to 4096, such as 64".to_owned()),
    }
}

/// Reads the limit on connections: from 1 to a million. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_connections_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(connections) if (1..=1_000_000).contains(&connections) => Ok(connections),
        _ => Err("must be a number from 1 to 1000000, such as 50000".to_owned()),
    }
}

/// Reads the limit on pools: from 1 to a million. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_pools_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pools) if (1..=1_000_000).contains(&pools) => Ok(pools),
        _ => Err("must be a number from 1 to 1000000, such as 1000".to_owned()),
    }
}

/// Reads the limit on the bytes of values: from 1 to a tebibyte. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_value_bytes_max(text: &str) -> Result<usize, String> {
    const MAX: usize = 1 << 40;
    match text.parse() {
        Ok(bytes) if (1..=MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("must be a number of bytes from 1 to {MAX}, such as 1073741824")),
    }
}

/// Reads the limit on keys: from 1 to 2^32 - 1. O(1).
///
/// # Errors
///
/// A message that says what the text must be, with an example.
pub fn parse_keys_max(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(keys) if keys > 0 => Ok(keys as usize),
        _ => Err(format!("must be a number from 1 to {}, such as 1000000", u32::MAX)),
    }
}

fn parse_ms<T: TryFrom<u128>>(text: &str, max_days: u64) -> Result<T, String> {
    let duration = Some(text)
        .filter(|text| is_moderate(text))
        .and_then(|text| humantime::parse_duration(text).ok())
        .ok_or_else(|| "must be a duration such as 60s, 1500ms or 5m".to_owned())?;
    if duration.subsec_nanos() % 1_000_000 != 0 {
        return Err("must be a whole number of milliseconds, such as 1500ms".to_owned());
    }
    let ms = T::try_from(duration.as_millis()).ok();
    ms.filter(|_| !duration.is_zero() && duration <= Duration::from_hours(24 * max_days))
        .ok_or_else(|| format!("must be a duration from 1ms to {max_days}d, such as 60s"))
}

/// Whether the numbers are small enough for `humantime`, which panics when they add up to 2^64 seconds.
fn is_moderate(text: &str) -> bool {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    text.len() <= 24 && numbers.all(|digits| digits.len() <= 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_to_the_millisecond() {
        for (text, ms) in
            [("60s", 60_000), ("1500ms", 1500), ("1.5s", 1500), ("5m", 300_000), ("1ms", 1)]
        {
            assert_eq!(parse_key_ttl_ms(text), Ok(ms), "{text}");
            assert_eq!(parse_lease_ttl_ms(text).map(u64::from), Ok(ms), "{text}");
        }
    }

    #[test]
    fn other_durations_are_refused() {
        let huge = ["18446744073709551615s1000ms", "9999999999999y", "99999999999y99999999999y"];
        for text in ["", "0s", "5", "-1s", "1us", "1.0005s", "soon", "31d"].iter().chain(&huge) {
            assert!(parse_lease_ttl_ms(text).is_err(), "{text}");
        }
        assert_eq!(parse_key_ttl_ms("31536000000ms"), Ok(365 * 24 * 60 * 60 * 1000));
        assert!(parse_key_ttl_ms("31d").is_ok() && parse_key_ttl_ms("2y").is_err());
    }

    #[test]
    fn durations_have_a_limit() {
        assert_eq!(parse_ms_up_to("1m", 60_000), Ok(60_000));
        assert_eq!(parse_ms_up_to("1ms", 60_000), Ok(1));
        for text in ["60001ms", "0ms", "", "1", "-1s", "31d"] {
            let error = parse_ms_up_to(text, 60_000).unwrap_err();
            assert!(error.contains("from 1ms to 1m,"), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!((parse_shards("2"), parse_shards("4096")), (Ok(2), Ok(4096)));
        assert!(["", "0", "1", "3", "8192", "x"].iter().all(|text| parse_shards(text).is_err()));
        assert_eq!(parse_connections_max("1"), Ok(1));
        assert!(["", "0", "1000001"].iter().all(|text| parse_connections_max(text).is_err()));
        assert_eq!(parse_keys_max("1"), Ok(1));
        assert!(["", "0", "-1", "4294967296"].iter().all(|text| parse_keys_max(text).is_err()));
    }

    #[test]
    fn switches_are_on_or_off() {
        assert!(["true", "YES", "on", "1"].iter().all(|text| parse_switch(text) == Ok(true)));
        assert!(["false", "No", "off", "0"].iter().all(|text| parse_switch(text) == Ok(false)));
        for text in ["", "2", "maybe", "y"] {
            assert!(parse_switch(text).unwrap_err().contains("true or false"), "{text}");
        }
    }
}
