//! A walk over all keys, a page at a time.
//!
//! It goes shard after shard, and in each through the buckets of the hash table in the order of their numbers
//! with reversed bits, as Redis' SCAN does: see `place.rs`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::fail_point::FailPoint;
use super::guarded::Look;
use super::journal::{Entry, Journal};
use super::place::between;
use super::pool::Pool;
use crate::key::{KeyId, KeyInfo};
use crate::time::Timestamp;

/// Where a walk over all keys goes on. By default it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCursor {
    shard: u16,
    /// The first place in the shard that was not seen yet.
    place: u64,
}

/// Some of the keys of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys, in no order that means anything.
    pub keys: Vec<(KeyId, KeyInfo)>,
    /// Where the walk goes on, or `None` at its end.
    pub next: Option<WalkCursor>,
}

impl Page {
    /// The most keys of a page.
    pub const KEYS_MAX: usize = 1000;
}

impl WalkCursor {
    const SHARD_BYTES: usize = size_of::<u16>();

    /// The cursor as text, of up to 14 characters that need no escape in a URL. It says nothing about a key but
    /// a few bits of its id. O(1).
    #[must_use]
    pub fn encode(self) -> String {
        let mut bytes = [0; Self::SHARD_BYTES + size_of::<u64>()];
        bytes[..Self::SHARD_BYTES].copy_from_slice(&self.shard.to_be_bytes());
        bytes[Self::SHARD_BYTES..].copy_from_slice(&self.place.to_be_bytes());
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        URL_SAFE_NO_PAD.encode(&bytes[..len.max(Self::SHARD_BYTES)])
    }

    /// The cursor that [`WalkCursor::encode`] gave as `text`, or `None` if it gave no such text. O(1).
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::SHARD_BYTES + size_of::<u64>()];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (shard, place) = bytes.split_first_chunk()?;
        let place = u64::from_be_bytes(*place.first_chunk()?);
        let cursor = Self { shard: u16::from_be_bytes(*shard), place };
        (len >= Self::SHARD_BYTES && cursor.encode() == text).then_some(cursor)
    }
}

impl<J: Journal> Pool<J> {
    /// How many buckets a page looks at beside those that it needs: so many may be empty.
    const EMPTY_MAX: usize = 1024;
    /// How many buckets there are for each key at most, but for small tables.
    const BUCKETS_PER_KEY: usize = 8;

    /// Gives `each` all that a journal keeps of some living keys from `cursor` on, as they are at `now`, bucket after
    /// bucket until there were `limit` or more, and returns where the walk goes on. A key that stays meanwhile is given once
    /// at least. A shard's lock is held for one bucket at a time. O(limit), whatever the size of the pool.
    pub fn walk_whole(
        &self,
        cursor: WalkCursor,
        limit: usize,
        now: Timestamp,
        mut each: impl FnMut(Entry),
    ) -> Option<WalkCursor> {
        let (mut next, mut count) = (cursor, 0);
        for _ in 0..limit * Self::BUCKETS_PER_KEY {
            let shard = usize::from(next.shard);
            if shard >= self.records.shard_count() {
                return None;
            }
            let end = self.records.look_at_bucket(shard, next.place, now, |look: Look<'_>| {
                if !look.is_dead() {
                    count += 1;
                    each(look.whole_by_now());
                }
            });
            next = match end {
                Some(place) => WalkCursor { place, ..next },
                None => WalkCursor { shard: next.shard + 1, place: 0 },
            };
            if count >= limit {
                break;
            }
        }
        (usize::from(next.shard) < self.records.shard_count()).then_some(next)
    }

    /// Up to `limit` living keys from `cursor` on, from 1 to [`Page::KEYS_MAX`], and where the walk goes on.
    /// There may be fewer keys, or none, before the end of the walk. O(limit), whatever the size of the pool.
    ///
    /// A key that exists from the beginning of a walk to its end is seen exactly once, and none is seen twice,
    /// however many keys come and go meanwhile. Each key is shown as it is when its page is made. A shard's lock
    /// is held for one bucket at a time.
    #[must_use]
    pub fn walk(&self, cursor: WalkCursor, limit: usize, now: Timestamp) -> Page {
        let limit = limit.clamp(1, Page::KEYS_MAX);
        let (mut keys, mut next) = (Vec::with_capacity(limit), cursor);
        let mut found = Vec::new();
        for _ in 0..limit * Self::BUCKETS_PER_KEY + Self::EMPTY_MAX {
            let (shard, from) = (usize::from(next.shard), next.place);
            if shard >= self.records.shard_count() {
                return Page { keys, next: None };
            }
            let end = self.records.look_at_bucket(shard, from, now, |look: Look<'_>| {
                let place = look.key.place();
                let is_ahead = place >= from || FailPoint::WalkLooksBack.is_on();
                if is_ahead && !look.is_dead() {
                    found.push((place, look.id(), look.info()));
                }
            });
            found.sort_unstable_by_key(|(place, ..)| *place);
            let room = limit - keys.len();
            let split = (found.len() > room).then(|| between(found[room - 1].0, found[room].0));
            keys.extend(found.drain(..).take(room).map(|(_, id, info)| (id, info)));
            next = match split.or(end) {
                Some(place) => WalkCursor { place, ..next },
                None => WalkCursor { shard: next.shard + 1, place: 0 },
            };
            if keys.len() == limit {
                break;
            }
        }
        let is_end = usize::from(next.shard) >= self.records.shard_count();
        Page { keys, next: (!is_end).then_some(next) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for shard in [0, 1, 255, 256, 4095, u16::MAX] {
            for place in [0, 1, 255, 1 << 33, 1 << 63, 0x8000_0000_0100_0000, u64::MAX] {
                let cursor = WalkCursor { shard, place };
                let text = cursor.encode();
                assert!(text.len() <= 14, "{text}");
                assert_eq!(WalkCursor::decode(&text), Some(cursor), "{text}");
            }
        }
        assert_eq!(WalkCursor { shard: 5, place: 1 << 63 }.encode(), "AAWA");
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let long = "A".repeat(5000);
        // Too short, too long, padded, with bits or bytes that no cursor has, or of other characters.
        for text in ["", "A", "AA", "AAAAAAAAAAAAAAAA", "AAA=", "AAB", "AAAA", "AA A", "é", &long]
        {
            assert_eq!(WalkCursor::decode(text), None, "{text}");
        }
    }
}
