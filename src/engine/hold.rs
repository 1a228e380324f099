//! The holder of a lease, and its part of a quota.

use crate::key::Holder;

/// The holder of one lease. As long as it is there, it counts against the holder's quota.
pub(super) struct Hold(Holder);

impl Hold {
    /// A lease for `holder`. `None` if its quota is used up. O(1).
    pub(super) fn take(holder: &Holder) -> Option<Self> {
        let is_free = holder.quota().is_none_or(|quota| quota.take());
        is_free.then(|| Self(holder.clone()))
    }

    /// The part of a lease that may have a holder: `Some(None)` if it has none, and `None` if the quota is used up. O(1).
    #[expect(clippy::option_option, reason = "a lease without a holder needs no part")]
    pub(super) fn of(holder: Option<&Holder>) -> Option<Option<Self>> {
        match holder {
            None => Some(None),
            Some(holder) => Self::take(holder).map(Some),
        }
    }

    /// A lease that is restored: it counts even if the quota is used up. O(1).
    pub(super) fn restored(holder: &Holder) -> Self {
        holder.quota().iter().for_each(|quota| quota.add());
        Self(holder.clone())
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.quota().iter().for_each(|quota| quota.give());
    }
}
