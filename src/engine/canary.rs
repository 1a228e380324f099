//! Canaries: bugs that a test plants, to see that the other tests would catch them. Without the
//! feature `canary` none can be planted, and the compiler leaves nothing of this.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A lease believes a hint whatever its generation is.
    HintGenerationNotCompared,
    /// A request acts on a lease whatever generation it names.
    FenceNotCompared,
    /// A released key is not offered again.
    ReleaseForgetsFreeVector,
    /// The sweep ends a life when its entry is due, without asking the record.
    SweepTrustsIndex,
    /// An entry of life that pops too early is not armed anew.
    KeepAliveNotRearmed,
    /// A lease ends a millisecond late.
    LeaseEndsLate,
    /// A dart that flies over a column hits it nevertheless: the few hints of a shard that has
    /// few are drawn more often than the others.
    UnevenDraw,
    /// A dart that was thrown at a hint that is gone by now takes the last one of the shard.
    LateDartHits,
    /// Who waits does not hear of a key that was released.
    ReleaseWakesNobody,
}

#[cfg(feature = "canary")]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    impl Bug {
        /// All of them.
        pub const ALL: [Self; 9] = [
            Self::HintGenerationNotCompared,
            Self::FenceNotCompared,
            Self::ReleaseForgetsFreeVector,
            Self::SweepTrustsIndex,
            Self::KeepAliveNotRearmed,
            Self::LeaseEndsLate,
            Self::UnevenDraw,
            Self::LateDartHits,
            Self::ReleaseWakesNobody,
        ];

        /// Gives all pools that this thread works with this bug, and no other.
        pub fn plant(bug: Option<Self>) {
            PLANTED.set(bug);
        }

        pub(crate) fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }
}

#[cfg(not(feature = "canary"))]
impl Bug {
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}
