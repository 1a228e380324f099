//! Encryption of what is on disk, with AES-256-GCM.
//!
//! Each run of the server seals with a key of its own, which is made from the operator's key and a random salt in the head
//! of each file. So a nonce need only be unique in one run: it is the number of a frame, or of a block of a snapshot.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{self, HKDF_SHA256, Prk, Salt};
use zeroize::Zeroizing;

use super::error::OpenError;

/// The operator's key, of 32 bytes.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; DataKey::BYTES]>);

impl DataKey {
    /// How long a key is.
    pub const BYTES: usize = 32;

    /// The key with these bytes.
    #[must_use]
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key that 64 hexadecimal digits say. `None` if the text is anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        for (byte, place) in bytes.iter_mut().zip((0..digits.len()).step_by(2)) {
            *byte = u8::from_str_radix(&text[place..place + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for DataKey {
    /// Nothing of it: a log is no place for a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// The key of one run.
pub(crate) struct Seal {
    key: LessSafeKey,
    /// Tells a wrong key.
    pub(crate) check: [u8; 16],
}

/// What a nonce is for: frames and blocks of snapshots are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// A frame, by its sequence.
    Frame(u64),
    /// A block of a snapshot.
    Block { snapshot: u64, block: u32 },
}

/// A length for [`hkdf`].
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(from: &Prk, purpose: &[u8]) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    let purpose = [purpose];
    let derived = from.expand(&purpose, Length(N)).and_then(|okm| okm.fill(&mut *bytes));
    derived.expect("the length is one that HKDF can make");
    bytes
}

impl Seal {
    /// The key that is made from `data_key` and `salt`.
    pub(crate) fn new(data_key: &DataKey, salt: [u8; 16]) -> Self {
        let from = Salt::new(HKDF_SHA256, &salt).extract(&*data_key.0);
        let key = derive::<32>(&from, b"token-orchestrator journal key");
        let check = *derive::<16>(&from, b"token-orchestrator journal check");
        let key = UnboundKey::new(&AES_256_GCM, &*key).expect("it has 32 bytes");
        Self { key: LessSafeKey::new(key), check }
    }

    /// The key of a file, `None` if the file is not sealed.
    ///
    /// # Errors
    ///
    /// [`OpenError::KeyMissing`], [`OpenError::WrongKey`], [`OpenError::NotSealed`]
    pub(crate) fn of_file(
        data_key: Option<&DataKey>,
        file: &str,
        salt: [u8; 16],
        check: [u8; 16],
    ) -> Result<Option<Self>, OpenError> {
        match (data_key, check == [0; 16]) {
            (None, true) => Ok(None),
            (None, false) => Err(OpenError::KeyMissing),
            (Some(_), true) => Err(OpenError::NotSealed),
            (Some(data_key), false) => {
                let seal = Self::new(data_key, salt);
                let is_it = seal.check == check;
                is_it.then_some(Some(seal)).ok_or(OpenError::WrongKey { file: file.to_owned() })
            }
        }
    }

    /// Seals `bytes` from `begin` on, in place. O(length).
    pub(crate) fn seal(&self, what: Sealed, bytes: &mut Vec<u8>, begin: usize) {
        let tag =
            self.key.seal_in_place_separate_tag(what.nonce(), Aad::empty(), &mut bytes[begin..]);
        bytes.extend_from_slice(tag.expect("it is far shorter than 64 GiB").as_ref());
    }

    /// Opens `bytes` in place, and returns the part of them that was sealed. `None` if they were changed. O(length).
    pub(crate) fn open<'b>(&self, what: Sealed, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
        self.key.open_in_place(what.nonce(), Aad::empty(), bytes).ok()
    }
}

impl Sealed {
    fn nonce(self) -> Nonce {
        let mut nonce = [0; 12];
        let (kind, number) = match self {
            Self::Frame(sequence) => (0, sequence),
            Self::Block { snapshot, block } => (1, snapshot << 32 | u64::from(block)),
        };
        nonce[0] = kind;
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}
