//! The vocabulary: what a key, a lease and a life are to callers.

mod holder;
mod label;
mod value;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use rand::{CryptoRng, RngExt};
use uuid::Uuid;

pub use self::holder::{Holder, Quota};
pub use self::label::Label;
pub use self::value::Value;
use crate::error::Error;
use crate::pool::PoolId;
use crate::time::Timestamp;

/// The id of a key, which is the key itself: a random (version 4) UUID. It is a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// Length of an id as text: `xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`.
    pub const TEXT_LEN: usize = uuid::fmt::Hyphenated::LENGTH;

    /// A new id with 122 random bits. O(1).
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self::from_random_bytes(rng.random())
    }

    /// The version 4 id made of these bytes: its six fixed bits are set, the others kept. O(1).
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }

    /// The id with exactly these bytes. O(1).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as in RFC 9562. O(1).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id as lower-case text, written into `buffer`. O(1).
    pub fn encode<'a>(&self, buffer: &'a mut [u8; Self::TEXT_LEN]) -> &'a str {
        Uuid::from_bytes(self.0).hyphenated().encode_lower(buffer)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// Reads the hyphenated form, in upper or lower case (RFC 9562, section 4). O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for any other text: no key has such an id.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() != Self::TEXT_LEN {
            return Err(Error::NotFound);
        }
        Uuid::try_parse(text).map(|id| Self(id.into_bytes())).map_err(|_| Error::NotFound)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; Self::TEXT_LEN]))
    }
}

impl fmt::Debug for KeyId {
    /// The first eight digits: an id is a secret, and a log is no place for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.encode(&mut [0; Self::TEXT_LEN])[..8])
    }
}

/// A lease: its holder has the key alone from `since` until just before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The pool that the key is in; the engine, which knows no other pools, leaves it to the store to say which.
    pub pool: PoolId,
    /// The leased key.
    pub id: KeyId,
    /// The key's generation during this lease, which no other lease of the key has: see [`Fence`].
    pub generation: u64,
    /// When the lease began.
    pub since: Timestamp,
    /// When the lease ends: at this time the key is free.
    pub until: Timestamp,
}

/// A lease, and the value that it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The lease.
    pub lease: Lease,
    /// The value of the key, if it has one.
    pub value: Option<Value>,
}

/// It is a lease to those who do not ask for the value.
impl Deref for Leased {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

/// The lease of a key without a value.
impl From<Lease> for Leased {
    fn from(lease: Lease) -> Self {
        Self { lease, value: None }
    }
}

/// Whether a key can be leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Free,
    /// A client has it.
    Leased(Lease),
    /// It cools down, after a release or while it was free, until just before `until`.
    Cooling {
        /// When the cool-down began.
        since: Timestamp,
        /// When the key is free.
        until: Timestamp,
    },
}

impl State {
    /// Since when and until when the key cannot be leased. O(1).
    #[must_use]
    pub fn blocked(&self) -> Option<(Timestamp, Timestamp)> {
        match *self {
            Self::Free => None,
            Self::Leased(Lease { since, until, .. }) | Self::Cooling { since, until } => {
                Some((since, until))
            }
        }
    }
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// When the key was created.
    pub created_at: Timestamp,
    /// When the key dies unless it is kept alive, or [`Timestamp::NEVER`].
    pub life_ends: Timestamp,
    /// Rises with each lease and with each end of one, so that none repeats: see [`Fence`].
    pub generation: u64,
    /// Whether it can be leased.
    pub state: State,
    /// What it has of its own, if it has anything. Most keys have nothing, so that is all that they pay for it.
    pub own: Option<Box<OwnInfo>>,
}

impl KeyInfo {
    /// Its labels. O(1).
    #[must_use]
    pub fn labels(&self) -> &[Label] {
        self.own.as_ref().map_or(&[], |own| &own.labels)
    }

    /// Who has leased it, if that was said. O(1).
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.own.as_ref()?.holder.as_ref()
    }
}

/// What is known of what a key has of its own, but for its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnInfo {
    /// Its labels, in the order in which they were given.
    pub labels: Vec<Label>,
    /// Who has leased it, if that was said.
    pub holder: Option<Holder>,
}

impl OwnInfo {
    /// As it stands in [`KeyInfo`]: `None` if there is nothing. O(1).
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// The generations of a key that a request is meant for.
///
/// Fencing: a holder whose lease is over must not free the key of the next one. It names the
/// generation of its lease, and the request is refused if the key has moved on. See Kleppmann,
/// "How to do distributed locking", 2016.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fence<'a> {
    /// Whatever its generation.
    #[default]
    Any,
    /// Only at this one.
    One(u64),
    /// Only at one of these.
    OneOf(&'a [u64]),
}

impl Fence<'_> {
    /// Whether the request is meant for a key of this generation. O(g) for g generations.
    #[must_use]
    pub fn admits(&self, generation: u64) -> bool {
        match self {
            Self::Any => true,
            Self::One(wanted) => *wanted == generation,
            Self::OneOf(generations) => generations.contains(&generation),
        }
    }
}

/// How long keys live and leases last, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// A key's life, from its creation or its last keep-alive, or [`Ttl::NEVER_MS`].
    pub key_ttl_ms: u64,
    /// A lease. At most 2^32 - 1.
    pub lease_ttl_ms: u32,
}

impl Ttl {
    /// The key TTL of keys that live until they are deleted.
    pub const NEVER_MS: u64 = u64::MAX;

    /// When a life ends that begins, or is kept alive, at `now`; [`Timestamp::NEVER`] for a key TTL of
    /// [`Ttl::NEVER_MS`]. O(1).
    #[must_use]
    pub const fn life_ends(self, now: Timestamp) -> Timestamp {
        if self.key_ttl_ms == Self::NEVER_MS {
            Timestamp::NEVER
        } else {
            now.plus_ms(self.key_ttl_ms)
        }
    }
}

impl Default for Ttl {
    /// Five minutes and one minute, as the problem statement says.
    fn default() -> Self {
        Self { key_ttl_ms: 5 * 60 * 1000, lease_ttl_ms: 60 * 1000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

    #[test]
    fn an_id_reads_and_writes_the_hyphenated_form() {
        let id: KeyId = TEXT.parse().unwrap();
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(TEXT.to_uppercase().parse(), Ok(id));
        assert_eq!(format!("{id:?}"), "936da01f…");
    }

    #[test]
    fn other_forms_are_no_ids() {
        let simple = TEXT.replace('-', "");
        let braced = format!("{{{TEXT}}}");
        let moved = TEXT.replacen('-', "0", 1).replacen("9abd", "9-bd", 1);
        for text in ["", "x", &simple, &braced, &TEXT[1..], &TEXT.replace('a', "g"), &moved] {
            assert_eq!(text.parse::<KeyId>(), Err(Error::NotFound), "{text}");
        }
    }

    #[test]
    fn random_ids_are_version_4_and_differ() {
        let (a, b) = (KeyId::random(&mut rand::rng()), KeyId::random(&mut rand::rng()));
        assert_ne!(a, b);
        assert_eq!(Uuid::from_bytes(*a.as_bytes()).get_version_num(), 4);
    }
}
