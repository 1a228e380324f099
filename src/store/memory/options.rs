//! The options of the store in memory.

use crate::pool::Settings;

/// Options of [`Memory::new`](super::Memory::new).
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The settings of the default pool, and of others as far as their operators say nothing else.
    pub settings: Settings,
    /// The number of shards of the default pool, a power of two from 2 to 4096.
    pub shards: usize,
    /// The most clients that may wait for a key at once, in all pools together.
    pub waiters_max: usize,
    /// The most pools there may be at once, with the default pool.
    pub pools_max: usize,
    /// The most bytes that the values of keys may have, in all pools together.
    pub value_bytes_max: usize,
}

impl Options {
    /// Enough that threads seldom meet in one, and few enough that a walk over them is short.
    pub const SHARDS: usize = 256;
    /// So many clients take about 2 MB over HTTP/1.1, with TLS or without, and 40 MB over HTTP/2, beside their
    /// connections. The memory is given back when they have gone.
    pub const WAITERS_MAX: usize = 10_000;
    /// So many pools take about 4 MB while they are empty.
    pub const POOLS_MAX: usize = 1000;
    /// 1 GiB: a million values of a thousand characters.
    pub const VALUE_BYTES_MAX: usize = 1 << 30;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            shards: Self::SHARDS,
            waiters_max: Self::WAITERS_MAX,
            pools_max: Self::POOLS_MAX,
            value_bytes_max: Self::VALUE_BYTES_MAX,
        }
    }
}
