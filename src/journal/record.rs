//! What frames and snapshots are made of: records that say what is true of a key or a pool.
//!
//! A record of a generated key takes 33 bytes, 9 more while it is blocked, and 4 more in a pool that is not the default
//! one; one of a change takes 28, and the same in addition.

use std::sync::Arc;

use super::bytes::{Malformed, Reader, Writer};
use super::head::NUMBER_END;
use crate::engine::{After, Entry, KeyState};
use crate::key::{Holder, KeyId, Label, Quota, Value};
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A key of the pool with this number.
    Key(u32, Entry),
    /// A pool, with its settings from that time on.
    Pool(u32, PoolName, Settings, Timestamp),
    /// A pool was deleted with its keys.
    PoolGone(u32),
}

/// What a record tells of, in the lowest bits of its first byte. Of keys, the other bits say what follows.
mod kind {
    pub(super) const WHOLE: u8 = 1;
    pub(super) const STATE: u8 = 2;
    pub(super) const GONE: u8 = 3;
    pub(super) const POOL: u8 = 4;
    pub(super) const POOL_GONE: u8 = 5;
    pub(super) const MASK: u8 = 0b111;
}

const BLOCKED: u8 = 1 << 3;
const WITH_VALUE: u8 = 1 << 4;
const WITH_LABELS: u8 = 1 << 5;
const HELD: u8 = 1 << 6;
/// The number of the pool follows; without it, it is 0: the default pool.
const NAMED: u8 = 1 << 7;

/// Writes a key of a pool. O(length of its value and labels).
pub(crate) fn write_key(out: &mut Vec<u8>, pool: u32, Entry { id, after }: &Entry) {
    let (kind, state, whole) = match after {
        After::Whole { created_at, state, value, labels } => {
            (kind::WHOLE, Some(state), Some((created_at, value, labels)))
        }
        After::State(state) => (kind::STATE, Some(state), None),
        After::Gone => (kind::GONE, None, None),
    };
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let block = state.and_then(|state| state.block);
    let holder = state.and_then(|state| state.holder.as_ref());
    let flags = flag(block.is_some(), BLOCKED)
        | flag(holder.is_some(), HELD)
        | flag(pool != 0, NAMED)
        | flag(whole.is_some_and(|(_, value, _)| value.is_some()), WITH_VALUE)
        | flag(whole.is_some_and(|(.., labels)| !labels.is_empty()), WITH_LABELS);
    let mut out = Writer(out);
    out.byte(kind | flags);
    if pool != 0 {
        out.number::<4>(pool.into());
    }
    out.bytes(id.as_bytes());
    let Some(state) = state else { return };
    out.number::<5>(state.life_ends.as_ms());
    out.number::<6>(state.generation);
    if let Some((since, until)) = block {
        out.number::<5>(until.as_ms());
        out.number::<4>(until.ms_since(since));
    }
    if let Some(holder) = holder {
        out.text(holder.name());
        out.text(holder.quota().and_then(|quota| quota.name()).unwrap_or_default());
    }
    let Some((created_at, value, labels)) = whole else { return };
    out.number::<5>(created_at.as_ms());
    if let Some(value) = value {
        out.text(value.reveal());
    }
    if !labels.is_empty() {
        out.byte(u8::try_from(labels.len()).expect("a key has at most 8"));
        for label in labels {
            out.text(label.as_str());
        }
    }
}

/// Writes a pool and its settings from `at` on. O(1).
pub(crate) fn write_pool(
    out: &mut Vec<u8>,
    pool: u32,
    name: &PoolName,
    settings: &Settings,
    at: Timestamp,
) {
    let mut out = Writer(out);
    out.byte(kind::POOL);
    out.number::<4>(pool.into());
    out.text(name.as_str());
    out.number::<5>(at.as_ms());
    out.number::<8>(settings.key_ttl_ms.unwrap_or(u64::MAX));
    for ms in [
        settings.lease_ttl_ms,
        settings.lease_ms_max,
        settings.cooldown_ms_max,
        settings.wait_ms_max,
        settings.lapse_cooldown_ms,
    ] {
        out.number::<4>(ms.into());
    }
    out.number::<8>(settings.keys_max as u64);
}

/// Writes that a pool was deleted. O(1).
pub(crate) fn write_pool_gone(out: &mut Vec<u8>, pool: u32) {
    let mut out = Writer(out);
    out.byte(kind::POOL_GONE);
    out.number::<4>(pool.into());
}

/// Finds the quota of a token by its name.
pub(crate) type FindQuota<'a> = dyn Fn(&str) -> Option<Arc<Quota>> + 'a;

/// Reads the next record.
///
/// # Errors
///
/// [`Malformed`]
pub(crate) fn read(bytes: &mut Reader<'_>, quota: &FindQuota<'_>) -> Result<Record, Malformed> {
    let first = bytes.byte()?;
    match first & kind::MASK {
        kind::POOL if first == kind::POOL => read_pool(bytes),
        kind::POOL_GONE if first == kind::POOL_GONE => Ok(Record::PoolGone(bytes.u32()?)),
        kind::WHOLE | kind::STATE | kind::GONE => read_key(first, bytes, quota),
        _ => Err(Malformed),
    }
}

fn read_key(first: u8, bytes: &mut Reader<'_>, quota: &FindQuota<'_>) -> Result<Record, Malformed> {
    let has = |flag| first & flag != 0;
    let pool = if has(NAMED) { bytes.u32()? } else { 0 };
    let id = KeyId::from_bytes(bytes.array()?);
    if KeyId::from_random_bytes(*id.as_bytes()) != id {
        return Err(Malformed);
    }
    if first & kind::MASK == kind::GONE {
        return Ok(Record::Key(pool, Entry { id, after: After::Gone }));
    }
    let life_ends = Timestamp::from_kept_ms(bytes.number::<5>()?);
    let generation = bytes.number::<6>()?;
    let block = if has(BLOCKED) { Some(read_block(bytes)?) } else { None };
    if block.is_none() && generation % 2 == 1 || generation >= NUMBER_END {
        return Err(Malformed);
    }
    let holder = if has(HELD) {
        let (name, of) = (bytes.text()?, bytes.text()?);
        Some(Holder::new(name, quota(of)).ok_or(Malformed)?)
    } else {
        None
    };
    let state = KeyState { life_ends, generation, block, holder };
    if first & kind::MASK == kind::STATE {
        return Ok(Record::Key(pool, Entry { id, after: After::State(state) }));
    }
    let created_at = read_time(bytes)?;
    let value =
        if has(WITH_VALUE) { Some(Value::new(bytes.text()?).ok_or(Malformed)?) } else { None };
    let mut labels = Vec::new();
    let count = if has(WITH_LABELS) { usize::from(bytes.byte()?) } else { 0 };
    if count > Label::COUNT_MAX {
        return Err(Malformed);
    }
    for _ in 0..count {
        labels.push(Label::parse(bytes.text()?).ok_or(Malformed)?);
    }
    Ok(Record::Key(pool, Entry { id, after: After::Whole { created_at, state, value, labels } }))
}

fn read_time(bytes: &mut Reader<'_>) -> Result<Timestamp, Malformed> {
    let ms = bytes.number::<5>()?;
    Some(Timestamp::from_ms(ms)).filter(|time| time.as_ms() == ms).ok_or(Malformed)
}

fn read_block(bytes: &mut Reader<'_>) -> Result<(Timestamp, Timestamp), Malformed> {
    let until = read_time(bytes)?;
    let ms = bytes.number::<4>()?;
    let since_ms = until.as_ms().checked_sub(ms).filter(|_| ms > 0).ok_or(Malformed)?;
    Ok((Timestamp::from_ms(since_ms), until))
}

fn read_pool(bytes: &mut Reader<'_>) -> Result<Record, Malformed> {
    let pool = bytes.u32()?;
    let name = bytes.text()?.parse().map_err(|_| Malformed)?;
    let at = read_time(bytes)?;
    let key_ttl_ms = Some(bytes.number::<8>()?).filter(|ms| *ms != u64::MAX);
    let settings = Settings {
        key_ttl_ms,
        lease_ttl_ms: bytes.u32()?,
        lease_ms_max: bytes.u32()?,
        cooldown_ms_max: bytes.u32()?,
        wait_ms_max: bytes.u32()?,
        lapse_cooldown_ms: bytes.u32()?,
        keys_max: usize::try_from(bytes.number::<8>()?).map_err(|_| Malformed)?,
    };
    Ok(Record::Pool(pool, name, settings, at))
}
