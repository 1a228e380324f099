//! Changing the settings of a pool while it runs.

use super::fail_point::FailPoint;
use super::journal::Journal;
use super::pool::Pool;
use super::settings::Settings;
use crate::key::Ttl;
use crate::time::Timestamp;

impl<J: Journal> Pool<J> {
    /// How many due entries are handled at a time before the cool-down is changed.
    const SETTLED: usize = 64;

    /// The settings. O(1).
    #[must_use]
    pub fn settings(&self) -> Settings {
        let lapse_cooldown_ms = self.records.lapse_cooldown_ms();
        Settings { ttl: self.ttl(), keys_max: self.keys_max(), lapse_cooldown_ms }
    }

    /// How long keys live and leases last. O(1).
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        self.live.ttl()
    }

    /// The most keys there may be at once. There may be more if there were before it was lowered. O(1).
    #[must_use]
    pub fn keys_max(&self) -> usize {
        self.live.keys_max()
    }

    /// Changes the settings, for what comes later: O(1), and O(s + d log n) for s shards and d due entries
    /// if the cool-down after a lapse changes.
    ///
    /// - A key TTL is that of keys which are created or kept alive later. It cuts no life short, also not that
    ///   of a key which is kept alive: such a key dies at the later one of its end and the new one.
    /// - With a lower `keys_max` no key dies. Until there are fewer, none can be created.
    /// - A cool-down is that of leases which run out later. One that has run out by now has the one before, even
    ///   if no operation has noticed it yet. While this call runs, that is decided for each shard at one moment.
    ///
    /// The pool's index of lives is made for its first key TTL. One that becomes many times as long costs up to
    /// 200 bytes more a key, and with one that becomes many times shorter, threads meet more often.
    pub fn configure(&self, settings: Settings, now: Timestamp) {
        self.live.set(settings);
        // The shards only remember the last change, so nothing may be left of what lapsed before that one.
        self.records.change_lapse(settings.lapse_cooldown_ms, now, || {
            while !FailPoint::LapseForgetsChange.is_on()
                && self.end_blocks(now, Self::SETTLED) == Self::SETTLED
            {}
        });
    }
}
