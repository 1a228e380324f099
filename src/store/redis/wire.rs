//! How operations and answers are written: numbers of a fixed length, the first byte first, and texts behind their lengths. The functions in
//! `lua/` say what each operation has.

use crate::error::Error;
use crate::key::{Fence, KeyId};
use crate::time::Timestamp;

/// An id as the engine has it: it begins with what the shard knows a key by. The first bits are random, so that they can choose a
/// group.
pub(super) fn short_first(id: &KeyId) -> [u8; 16] {
    let mut bytes = *id.as_bytes();
    // The bits of the version and the variant come later.
    bytes.rotate_left(9);
    bytes
}

/// The id that [`short_first`] gave these bytes for. O(1).
pub(super) fn id_of(mut bytes: [u8; 16]) -> KeyId {
    bytes.rotate_right(9);
    KeyId::from_bytes(bytes)
}

/// The operations, by the numbers that the library has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Create = 1,
    Lease,
    Renew,
    Release,
    KeepAlive,
    Delete,
    Show,
    ShowLease,
    GiveBack,
    TakeBack,
    Look,
    Stats,
    Inventory,
    FindValues,
    Import,
    Labels,
    BeginRequest,
    SettleRequest,
    GiveUpRequest,
    Configure,
    Close,
    Reopen,
    Drop,
}

/// An operation as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(code: Code) -> Self {
        Self(vec![code as u8])
    }

    pub(super) fn bare() -> Self {
        Self(Vec::new())
    }

    /// The last `N` bytes of a number.
    pub(super) fn number<const N: usize>(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes()[8 - N..]);
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes behind their number, which has `N` bytes.
    pub(super) fn counted<const N: usize>(self, bytes: &[u8]) -> Self {
        self.number::<N>(bytes.len() as u64).bytes(bytes)
    }

    pub(super) fn id(self, id: &KeyId) -> Self {
        self.bytes(&short_first(id))
    }

    /// All that a fence admits. A header has no more than some thousand.
    pub(super) fn fence(self, fence: Fence<'_>) -> Self {
        const ANY: u64 = 65535;
        const MOST: usize = 65534;
        match fence {
            Fence::Any => self.number::<2>(ANY),
            Fence::One(generation) => self.number::<2>(1).generation(generation),
            Fence::OneOf(generations) => {
                let generations = &generations[..generations.len().min(MOST)];
                let counted = self.number::<2>(generations.len() as u64);
                generations.iter().fold(counted, |writer, one| writer.generation(*one))
            }
        }
    }

    /// A generation. No key has one that is too large for its bytes; 2 is none's either.
    fn generation(self, generation: u64) -> Self {
        const MAX: u64 = 1 << 53;
        self.number::<7>(if generation < MAX { generation } else { MAX })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads an answer.
pub(super) struct Reader<'a>(&'a [u8]);

/// What an operation answers first.
pub(super) mod status {
    pub(in super::super) const OK: u8 = 0;
    pub(in super::super) const NOT_FOUND: u8 = 1;
    pub(in super::super) const STALE: u8 = 2;
    pub(in super::super) const NOT_LEASED: u8 = 3;
    pub(in super::super) const EMPTY: u8 = 4;
    pub(in super::super) const MISSED: u8 = 5;
    pub(in super::super) const TAKEN: u8 = 6;
    pub(in super::super) const KNOWN: u8 = 7;
}

/// An answer that is not what the library gives.
#[derive(Debug)]
pub(super) struct Malformed;

pub(super) type Read<T> = Result<T, Malformed>;

impl<'a> Reader<'a> {
    pub(super) fn new(answer: &'a [u8]) -> Self {
        Self(answer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Read<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn number<const N: usize>(&mut self) -> Read<u64> {
        let bytes = self.bytes(N)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        Ok(self.bytes(1)?[0])
    }

    /// A number that counts things.
    pub(super) fn size<const N: usize>(&mut self) -> Read<usize> {
        usize::try_from(self.number::<N>()?).map_err(|_| Malformed)
    }

    pub(super) fn counted<const N: usize>(&mut self) -> Read<&'a [u8]> {
        let count = self.size::<N>()?;
        self.bytes(count)
    }

    pub(super) fn text<const N: usize>(&mut self) -> Read<&'a str> {
        str::from_utf8(self.counted::<N>()?).map_err(|_| Malformed)
    }

    pub(super) fn time(&mut self) -> Read<Timestamp> {
        Ok(Timestamp::from_kept_ms(self.number::<5>()?))
    }

    pub(super) fn id(&mut self) -> Read<KeyId> {
        let bytes = self.bytes(16)?.try_into().map_err(|_| Malformed)?;
        Ok(id_of(bytes))
    }

    /// Reads what an operation on a key answers first.
    pub(super) fn outcome(&mut self) -> Read<Result<(), Error>> {
        Ok(match self.byte()? {
            status::OK => Ok(()),
            status::NOT_FOUND => Err(Error::NotFound),
            status::STALE => Err(Error::Stale),
            status::NOT_LEASED => Err(Error::NotLeased),
            _ => return Err(Malformed),
        })
    }
}
