//! A pool that begins small: its tables and free vectors come in two halves, each made when a key first needs it.

use std::iter;

use super::short_id::{Sharding, ShortId};
use super::sync::OnceLock;

/// Among how many shards the keys of a pool are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many, from the beginning: a power of two from 2 to 4096. It takes some 400 bytes for each.
    Fixed(usize),
    /// 8, and so many more once there are more than `small_max` keys. One bit of each key's id says in which half
    /// it is: so no key ever moves, and none is looked for twice. Those of its halves that a pool has not needed
    /// yet take no memory.
    Growing {
        /// See [`Size::Fixed`].
        shards: usize,
        /// While there are no more keys than this, new ones belong to the small half.
        small_max: usize,
    },
}

impl Size {
    /// The shards of a small half: a walk over them takes less than a microsecond.
    const SMALL_SHARDS: usize = 8;

    /// Few shards for the first 4,096 keys, and `shards` more for others. O(1).
    #[must_use]
    pub const fn growing(shards: usize) -> Self {
        Self::Growing { shards, small_max: 4096 }
    }
}

/// Something that is divided among shards: once, or once for each half of a pool that begins small.
pub(super) enum Halves<T> {
    One(T),
    Two {
        small: OnceLock<T>,
        large: OnceLock<T>,
        /// That of the large half.
        sharding: Sharding,
    },
}

impl<T> Halves<T> {
    /// The halves of a pool; `make` makes the only one of a fixed size.
    ///
    /// # Panics
    ///
    /// Unless the shards are a power of two from 2 to 4096.
    pub(super) fn new(size: Size, make: impl FnOnce(Sharding) -> T) -> Self {
        match size {
            Size::Fixed(shards) => Self::One(make(Sharding::new(shards))),
            Size::Growing { shards, .. } => Self::Two {
                small: OnceLock::new(),
                large: OnceLock::new(),
                sharding: Sharding::new(shards),
            },
        }
    }

    /// The half of a key, if it was ever needed. O(1).
    pub(super) fn of(&self, key: ShortId) -> Option<&T> {
        match self {
            Self::One(one) => Some(one),
            Self::Two { large, .. } if key.is_large() => large.get(),
            Self::Two { small, .. } => small.get(),
        }
    }

    /// The half of a key, which `make` makes if it is needed for the first time. O(1).
    pub(super) fn make(&self, key: ShortId, make: impl FnOnce(Sharding) -> T) -> &T {
        match self {
            Self::One(one) => one,
            Self::Two { large, sharding, .. } if key.is_large() => {
                large.get_or_init(|| make(*sharding))
            }
            Self::Two { small, .. } => {
                small.get_or_init(|| make(Sharding::new(Size::SMALL_SHARDS)))
            }
        }
    }

    /// The small and the large half, if they were ever needed; the only one counts as large.
    pub(super) fn small_and_large(&self) -> (Option<&T>, Option<&T>) {
        match self {
            Self::One(one) => (None, Some(one)),
            Self::Two { small, large, .. } => (small.get(), large.get()),
        }
    }

    /// The same, one after the other.
    pub(super) fn each(&self) -> impl Iterator<Item = &T> {
        let (small, large) = self.small_and_large();
        iter::chain(small, large)
    }

    /// How many shards there may be; `one` says how many the only half has.
    pub(super) fn shard_count(&self, one: impl FnOnce(&T) -> usize) -> usize {
        match self {
            Self::One(half) => one(half),
            Self::Two { sharding, .. } => Size::SMALL_SHARDS + sharding.count(),
        }
    }

    /// The half that has the shard with this number below [`Halves::shard_count`], if it was ever needed, and the
    /// number within it. O(1).
    pub(super) fn shard(&self, number: usize) -> (Option<&T>, usize) {
        match self {
            Self::One(one) => (Some(one), number),
            Self::Two { small, large, .. } => match number.checked_sub(Size::SMALL_SHARDS) {
                None => (small.get(), number),
                Some(number) => (large.get(), number),
            },
        }
    }
}
