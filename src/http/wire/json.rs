//! Bodies and header fields that describe keys, written byte by byte. Both paths of a request use them.

use crate::key::{Holder, KeyId, KeyInfo, Lease, Leased, Value};
use crate::pool::{PoolId, PoolName};
use crate::store::Store;
use crate::time::Timestamp;

/// `{"keyId":"…"}`
pub(in crate::http) fn key_id(body: &mut Vec<u8>, id: &KeyId) {
    body.extend_from_slice(br#"{"keyId":""#);
    text(body, id);
    body.extend_from_slice(br#""}"#);
}

/// `{"keyId":"…"}`, or `{"keyId":"…","value":"…"}` for a key with a value. O(length of the value).
pub(in crate::http) fn leased(body: &mut Vec<u8>, leased: &Leased) {
    let Some(of_key) = &leased.value else { return key_id(body, &leased.id) };
    body.extend_from_slice(br#"{"keyId":""#);
    text(body, &leased.id);
    body.push(b'"');
    value(body, of_key);
    body.push(b'}');
}

/// `{"keyId":"…","etag":"\"…\""}`, with the value behind it if the key has one. O(length of the value).
pub(in crate::http) fn lease(body: &mut Vec<u8>, leased: &Leased) {
    body.extend_from_slice(br#"{"keyId":""#);
    text(body, &leased.id);
    body.extend_from_slice(br#"","etag":"\""#);
    body.extend_from_slice(itoa::Buffer::new().format(leased.generation).as_bytes());
    body.extend_from_slice(br#"\"""#);
    leased.value.iter().for_each(|of_key| value(body, of_key));
    body.push(b'}');
}

/// `,"value":"…"`
fn value(body: &mut Vec<u8>, value: &Value) {
    body.extend_from_slice(br#","value":"#);
    serde_json::to_writer(body, value.reveal()).expect("a string");
}

/// The most bytes that a value takes in a body, with its name: a control character has six. O(1).
pub(in crate::http) fn value_bytes_max(value: &Value) -> usize {
    6 * value.reveal().len() + 11
}

/// An id, with quotes.
pub(in crate::http) fn quoted(body: &mut Vec<u8>, id: &KeyId) {
    body.push(b'"');
    text(body, id);
    body.push(b'"');
}

/// An id without quotes.
fn text(body: &mut Vec<u8>, id: &KeyId) {
    body.extend_from_slice(id.encode(&mut [0; KeyId::TEXT_LEN]).as_bytes());
}

/// `{}`
pub(in crate::http) fn empty(body: &mut Vec<u8>) {
    body.extend_from_slice(b"{}");
}

/// `{"isBlocked":…,"blockedAt":…,"createdAt":"…"}`
pub(in crate::http) fn info(body: &mut Vec<u8>, store: &impl Store, info: &KeyInfo) {
    match info.state.blocked() {
        Some((since, _)) => {
            body.extend_from_slice(br#"{"isBlocked":true,"blockedAt":""#);
            body.extend_from_slice(&time(store, since));
            body.extend_from_slice(br#"","createdAt":""#);
        }
        None => body.extend_from_slice(br#"{"isBlocked":false,"blockedAt":null,"createdAt":""#),
    }
    body.extend_from_slice(&time(store, info.created_at));
    body.extend_from_slice(br#""}"#);
}

/// Header fields that describe a key.
#[derive(Default)]
pub(in crate::http) struct Fields {
    /// `ETag`: its generation.
    pub(in crate::http) generation: Option<u64>,
    /// `Lease-Expires-At`: when its lease or its cool-down ends.
    pub(in crate::http) blocked_until: Option<Timestamp>,
    /// `Key-Expires-At`: when it expires unless it is kept alive.
    pub(in crate::http) life_ends: Option<Timestamp>,
    /// `Retry-After`, in milliseconds: the earliest time after which a retry may succeed.
    pub(in crate::http) retry_after_ms: Option<u64>,
    /// `Lease-Holder`: who has leased it, if that was said.
    pub(in crate::http) holder: Option<Holder>,
    /// `Location`: where a key is that was created or leased.
    pub(in crate::http) location: Option<(PoolId, KeyId)>,
}

impl Fields {
    pub(in crate::http) fn of_lease(lease: &Lease) -> Self {
        Self {
            generation: Some(lease.generation),
            blocked_until: Some(lease.until),
            ..Self::default()
        }
    }

    /// The fields of the answer to a `POST /leases` of one key.
    pub(in crate::http) fn of_lease_once(lease: &Lease) -> Self {
        Self { location: Some((lease.pool, lease.id)), ..Self::of_lease(lease) }
    }

    pub(in crate::http) fn of_key(info: &KeyInfo) -> Self {
        Self {
            generation: Some(info.generation),
            blocked_until: info.state.blocked().map(|(_, until)| until),
            life_ends: Some(info.life_ends),
            holder: info.holder().cloned(),
            ..Self::default()
        }
    }

    pub(in crate::http) fn of_life(ends: Timestamp) -> Self {
        Self { life_ends: Some(ends), ..Self::default() }
    }

    /// The fields of the answer to a creation of one key.
    pub(in crate::http) fn of_creation(pool: PoolId, id: KeyId, life_ends: Timestamp) -> Self {
        Self { location: Some((pool, id)), ..Self::of_life(life_ends) }
    }

    /// The fields of the answer that no key is free.
    pub(in crate::http) fn of_exhausted(retry_after_ms: Option<u64>) -> Self {
        Self { retry_after_ms, ..Self::default() }
    }

    /// Calls `write` with the name and the value of each field. O(1).
    pub(in crate::http) fn each(
        &self,
        store: &impl Store,
        mut write: impl FnMut(&'static str, &[u8]),
    ) {
        let mut digits = itoa::Buffer::new();
        if let Some(generation) = self.generation {
            let digits = digits.format(generation).as_bytes();
            let mut tag = [b'"'; 22];
            tag[1..=digits.len()].copy_from_slice(digits);
            write("etag", &tag[..digits.len() + 2]);
        }
        if let Some(at) = self.blocked_until {
            write("lease-expires-at", &time(store, at));
        }
        if let Some(at) = self.life_ends.and_then(Timestamp::unless_never) {
            write("key-expires-at", &time(store, at));
        }
        if let Some(holder) = &self.holder {
            write("lease-holder", holder.name().as_bytes());
        }
        if let Some(ms) = self.retry_after_ms {
            write("retry-after", digits.format(retry_after_s(ms)).as_bytes());
        }
        if let Some((pool, id)) = self.location {
            write_location(store, pool, id, |location| write("location", location));
        }
    }
}

/// Calls `write` with the path of a key.
fn write_location(store: &impl Store, pool: PoolId, id: KeyId, write: impl FnOnce(&[u8])) {
    const OF_POOL: &[u8] = b"/pools/";
    const OF_KEY: &[u8] = b"/keys/";
    const LEN_MAX: usize = OF_POOL.len() + PoolName::LEN_MAX + OF_KEY.len() + KeyId::TEXT_LEN;
    let (mut location, mut length) = ([0; LEN_MAX], 0);
    let mut push = |part: &[u8]| {
        location[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    };
    if pool != PoolId::DEFAULT {
        // With its pool, the key has gone.
        let Some(name) = store.name_of(pool) else { return };
        push(OF_POOL);
        push(name.as_str().as_bytes());
    }
    push(OF_KEY);
    push(id.encode(&mut [0; KeyId::TEXT_LEN]).as_bytes());
    write(&location[..length]);
}

/// The value of `Retry-After`: whole seconds, at least one.
pub(in crate::http) fn retry_after_s(ms: u64) -> u64 {
    ms.div_ceil(1000).max(1)
}

/// A time as text: see [`time`].
pub(in crate::http) fn time_text(store: &impl Store, at: Timestamp) -> String {
    String::from_utf8_lossy(&time(store, at)).into_owned()
}

/// RFC 3339, in UTC, with milliseconds, up to the year 9999.
///
/// Each hot answer contains up to three times, and this is several times as fast as a general formatter.
/// The algorithm is that of Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013.
fn time(store: &impl Store, at: Timestamp) -> [u8; 24] {
    let unix_ms = store.unix_ms(at);
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day is the last day of its year.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = year + era * 400;

    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |end: usize, mut number: u64, digits: usize| {
        for place in text[end - digits..end].iter_mut().rev() {
            // One digit.
            *place = b'0' + (number % 10).to_le_bytes()[0];
            number /= 10;
        }
    };
    put(4, year, 4);
    put(7, month, 2);
    put(10, day, 2);
    put(13, second / 3600, 2);
    put(16, second / 60 % 60, 2);
    put(19, second % 60, 2);
    put(23, ms, 3);
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::store::{Memory, Options};
    use crate::time::ManualClock;

    #[test]
    fn times_are_what_a_well_kept_formatter_says() {
        let mut at = SystemTime::UNIX_EPOCH;
        let step = Duration::from_millis(40_000_000_007 / 60);
        let (mut shown, mut leap_days) = (0, 0);
        // To the year 2400, which is a leap year.
        while shown < 21_000 {
            let store = Memory::new(Options::default(), ManualClock::new(at));
            let text = time(&store, Timestamp::default());
            let text = str::from_utf8(&text).unwrap();
            assert_eq!(text, humantime::format_rfc3339_millis(at).to_string());
            leap_days += u32::from(text[4..10] == *"-02-29");
            shown += 1;
            at += step;
        }
        assert!(leap_days > 5, "{leap_days}");
    }
}
