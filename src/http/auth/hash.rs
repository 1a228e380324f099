//! What a token is, and the hash by which a file names it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::{CryptoRng, RngExt};
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

/// The beginning of each token, by which people and secret scanners recognise it.
pub(super) const PREFIX: &str = "tok_";

/// The SHA-256 of a token. It is not a secret: a token is too random to be guessed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `token`. O(length).
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(hash)
    }
}

impl ConstantTimeEq for TokenHash {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

const HASH_FORM: &str = "a SHA-256 has 64 hexadecimal digits; `token new` prints it";

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digit = |at: usize| text.as_bytes().get(at).and_then(|c| char::from(*c).to_digit(16));
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let value = digit(2 * index).zip(digit(2 * index + 1));
            let value = value.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            *byte = value.ok_or(HASH_FORM)?;
        }
        if text.len() == 64 { Ok(Self(bytes)) } else { Err(HASH_FORM.to_owned()) }
    }
}

/// A new token with 256 random bits. O(1).
pub fn new_token(rng: &mut impl CryptoRng) -> String {
    let bytes: [u8; 32] = rng.random();
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of(b"abc").to_string(), hash);
        assert!(
            hash.to_uppercase().parse::<TokenHash>().is_ok_and(|read| read.to_string() == hash)
        );
        for wrong in ["", "ba78", &hash[1..], &format!("{hash}0"), &hash.replace('b', "é")] {
            assert!(wrong.parse::<TokenHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tokens_differ_and_are_easily_sent() {
        let (a, b) = (new_token(&mut rand::rng()), new_token(&mut rand::rng()));
        assert_ne!(a, b);
        assert_eq!(a.len(), PREFIX.len() + 43);
        assert!(a.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
    }
}
