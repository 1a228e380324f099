//! What clients saw: each operation with the times of its beginning and of its answer.

use std::fmt;

use uuid::Uuid;

/// An operation whose answer was lost, and which may still take effect at any time.
pub(crate) const NEVER: u64 = u64::MAX;
/// The status of an answer that was lost.
pub(crate) const LOST: u16 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Create,
    Lease,
    Release,
    Renew,
    KeepAlive,
    Delete,
    Look,
}

/// One operation on one key. Times are nanoseconds on the clock of the clients or threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) what: What,
    /// Nil if no answer named it.
    pub(crate) key: Uuid,
    /// Before its first byte was written.
    pub(crate) invoked_ns: u64,
    /// After the last byte of its answer was read. If that was lost: when it could no longer take
    /// effect, or [`NEVER`].
    pub(crate) ended_ns: u64,
    /// What `If-Match` said.
    pub(crate) fence: Option<u64>,
    /// For how long a lease or a cool-down was asked for; 0 for none.
    pub(crate) ms: u32,
    /// Or [`LOST`].
    pub(crate) status: u16,
    /// What `ETag` said.
    pub(crate) generation: Option<u64>,
    /// What `isBlocked` said.
    pub(crate) is_blocked: bool,
    /// Which of those that were sent at once on one connection, if there were several.
    pub(crate) turn: Turn,
}

/// A place in a sequence of requests that were sent at once on one connection. A server does what they
/// ask for in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// Names the sequence among all; 0 for an operation that has a time of its own.
    pub(crate) sequence: u64,
    pub(crate) place: u32,
}

/// All that the clients of one server, or the threads on one pool, saw.
pub(crate) struct History {
    pub(crate) key_ttl_ms: u32,
    /// By how much a deadline may seem early or late.
    pub(crate) slack_ns: u64,
    pub(crate) operations: Vec<Operation>,
    /// Whether requests choose keys by labels: then several of them may be about to lease one key.
    pub(crate) has_labels: bool,
}

impl Operation {
    pub(crate) fn is_lost(&self) -> bool {
        self.status == LOST
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    pub(crate) fn may_be_done(&self) -> bool {
        self.is_done() || self.is_lost()
    }

    /// Whether the key lived at some moment of this.
    pub(crate) fn proves_life(&self) -> bool {
        self.is_done() || matches!(self.status, 409 | 412)
    }

    /// The generation that the key had at some moment of this.
    pub(crate) fn seen(&self) -> Option<u64> {
        if !self.is_done() {
            return None;
        }
        match self.what {
            What::Create => Some(0),
            What::Lease | What::Look | What::Renew => self.generation,
            What::Release | What::Delete => self.fence,
            What::KeepAlive => None,
        }
    }

    /// How long what was asked for lasts.
    pub(crate) fn length_ns(&self) -> u64 {
        ns(self.ms)
    }
}

/// Nanoseconds.
pub(crate) fn ns(ms: u32) -> u64 {
    u64::from(ms) * 1_000_000
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us =
            |ns: u64| if ns == NEVER { "never".to_owned() } else { format!("{}us", ns / 1000) };
        let (from, to) = (us(self.invoked_ns), us(self.ended_ns));
        write!(f, "{from} to {to}: {:?} {}", self.what, &self.key.to_string()[..8])?;
        if let Some(fence) = self.fence {
            write!(f, " if at {fence}")?;
        }
        if self.ms > 0 {
            write!(f, " for {}ms", self.ms)?;
        }
        match self.status {
            LOST => write!(f, ": lost")?,
            status => write!(f, ": {status}")?,
        }
        if let Some(generation) = self.generation {
            write!(f, " at {generation}")?;
        }
        if self.is_blocked { write!(f, " blocked") } else { Ok(()) }
    }
}
