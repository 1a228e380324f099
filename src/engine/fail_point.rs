//! Fail points: faults that a test switches on, to see that the other tests would notice. Outside unit tests
//! none can be switched on, and the compiler removes them.

/// A fault, which its name describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailPoint {
    /// A lease trusts a hint of any generation.
    HintGenerationNotCompared,
    /// A request acts on a key whatever generation it names.
    FenceNotCompared,
    /// No hint is pushed for a key that has become free.
    UnblockOffersNothing,
    /// The sweep removes a key whose entry of life is due without asking the record.
    SweepTrustsIndex,
    /// An entry of life that comes due too early is not armed again.
    KeepAliveNotRearmed,
    /// A lease ends a millisecond late.
    LeaseEndsLate,
    /// A sample beyond the length of its shard is not rejected, so that hints in shards with few of them are
    /// drawn more often.
    UnevenDraw,
    /// A sample whose hint is gone takes the last hint of the shard.
    LateSampleHits,
    /// Only the sweep handles due entries, one stripe after another.
    OneStripeOnly,
    /// A key that is dead, and was not yet removed, keeps its value from others.
    DeadKeyKeepsValue,
    /// A key that has become free is offered by its hint in the pool's vectors alone.
    LabelNotOffered,
    /// A hint in the vectors of a label is not counted when it becomes stale.
    StaleHintOfLabelNotCounted,
    /// A lease by a label draws from all free keys.
    LabelIgnored,
    /// A lease that ran out keeps its holder, which counts against the quota.
    LapseKeepsHolder,
    /// A release does not serve the clients that wait.
    ReleaseServesNobody,
    /// A keep-alive after the key TTL was shortened cuts a life short.
    KeepAliveShortens,
    /// A life without end has an entry in the index.
    NeverIsArmed,
    /// A key is free as soon as its lease has lapsed.
    LapseFreesAtOnce,
    /// A changed cool-down also counts for leases that had lapsed before the change.
    LapseForgetsChange,
    /// A walk over all keys leaves out every other bucket.
    WalkSkipsBucket,
    /// A walk shows keys again that it has shown, where a page ended within a bucket or a table has shrunk.
    WalkLooksBack,
    /// A sample picks the small or the large half of a pool with equal probability.
    UnevenHalves,
    /// An answer leaves before what it rests on is on disk.
    AnswerBeforeCommit,
    /// The names of new files may be lost with the power.
    NamesNotSynced,
    /// What is behind the last whole frame is read, whatever its checksum says.
    TornEndAccepted,
    /// The records of a key come in no order.
    RecordsOutOfOrder,
    /// A snapshot is said to have what has changed while it was written.
    SnapshotMissesChanges,
    /// A snapshot counts before what it has is on disk elsewhere.
    SnapshotPublishedEarly,
    /// Generations that were given are not kept from being given again.
    GenerationsNotReserved,
    /// Damage in the middle is taken for a torn end.
    DamageCutOff,
    /// A copy looks for the snapshot after the segments.
    CopyOpensSnapshotLast,
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<FailPoint>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
impl FailPoint {
    /// All of them.
    pub(crate) const ALL: [Self; 31] = [
        Self::HintGenerationNotCompared,
        Self::FenceNotCompared,
        Self::UnblockOffersNothing,
        Self::SweepTrustsIndex,
        Self::KeepAliveNotRearmed,
        Self::LeaseEndsLate,
        Self::UnevenDraw,
        Self::LateSampleHits,
        Self::OneStripeOnly,
        Self::DeadKeyKeepsValue,
        Self::LabelNotOffered,
        Self::StaleHintOfLabelNotCounted,
        Self::LabelIgnored,
        Self::LapseKeepsHolder,
        Self::ReleaseServesNobody,
        Self::KeepAliveShortens,
        Self::NeverIsArmed,
        Self::LapseFreesAtOnce,
        Self::LapseForgetsChange,
        Self::WalkSkipsBucket,
        Self::WalkLooksBack,
        Self::UnevenHalves,
        Self::AnswerBeforeCommit,
        Self::NamesNotSynced,
        Self::TornEndAccepted,
        Self::RecordsOutOfOrder,
        Self::SnapshotMissesChanges,
        Self::SnapshotPublishedEarly,
        Self::GenerationsNotReserved,
        Self::DamageCutOff,
        Self::CopyOpensSnapshotLast,
    ];

    /// Switches on `point`, and no other, for this thread.
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
