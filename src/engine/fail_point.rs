//! Fail points: places at which a test makes the code err, to see that the other tests would notice.
//! Outside unit tests none can be switched on, and the compiler leaves nothing of them.

/// A place, by what goes wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailPoint {
    /// A lease believes a hint whatever its generation is.
    HintGenerationNotCompared,
    /// A request acts on a lease whatever generation it names.
    FenceNotCompared,
    /// A key that became free is not offered.
    UnblockOffersNothing,
    /// The sweep ends a life when its entry is due, without asking the record.
    SweepTrustsIndex,
    /// An entry of life that pops too early is not armed again.
    KeepAliveNotRearmed,
    /// A lease ends a millisecond late.
    LeaseEndsLate,
    /// A sample that misses its shard is taken for a hit: the few hints of a shard that has few are
    /// drawn more often than the others.
    UnevenDraw,
    /// A sample whose hint is gone by now takes the last one of the shard.
    LateSampleHits,
    /// Entries that are due are handled by the sweep alone, one stripe after the other.
    OneStripeOnly,
    /// A release does not serve the clients that wait.
    ReleaseServesNobody,
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<FailPoint>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
impl FailPoint {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::HintGenerationNotCompared,
        Self::FenceNotCompared,
        Self::UnblockOffersNothing,
        Self::SweepTrustsIndex,
        Self::KeepAliveNotRearmed,
        Self::LeaseEndsLate,
        Self::UnevenDraw,
        Self::LateSampleHits,
        Self::OneStripeOnly,
        Self::ReleaseServesNobody,
    ];

    /// Switches this one on in all that this thread does, and no other.
    pub(crate) fn switch_on(point: Option<Self>) {
        ON.set(point);
    }

    pub(crate) fn is_on(self) -> bool {
        ON.get() == Some(self)
    }
}

#[cfg(not(test))]
impl FailPoint {
    #[expect(clippy::unused_self, reason = "in unit tests it is used")]
    pub(crate) const fn is_on(self) -> bool {
        false
    }
}
