//! Tokens, and the file that lists them with their roles.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::{CryptoRng, RngExt};
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::roles::Role;

/// The most tokens in a file. The token of a request is compared with all of them.
const TOKENS_MAX: usize = 1000;
/// The beginning of each token, by which people and secret scanners recognise it.
const PREFIX: &str = "tok_";

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

/// Checks the name of a token. O(length).
///
/// # Errors
///
/// A message that describes the right form.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(is_usual) {
        return Ok(());
    }
    Err("a name has 1 to 64 letters, digits, dots, hyphens or underscores, such as worker-1"
        .to_owned())
}

/// The tokens of a file.
#[derive(Default)]
pub(super) struct Tokens(Vec<Arc<Token>>);

pub(super) struct Token {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    hash: TokenHash,
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the file says of a token. It takes the same time for an unknown token. O(t) for t tokens.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Arc<Token>> {
        let hash = TokenHash::of(token);
        let mut found = u32::MAX;
        for (index, token) in (0..).zip(&self.0) {
            let is_equal: Choice = token.hash.0.ct_eq(&hash.0);
            found.conditional_assign(&index, is_equal);
        }
        self.0.get(usize::try_from(found).ok()?)
    }
}

impl FromStr for Tokens {
    type Err = String;

    /// Reads the text of a file. Each line has the name, the role and the SHA-256 of a token. A `#` begins a
    /// comment.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::<Arc<Token>>::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let error = |what: &str| format!("line {number}: {what}");
            let [name, role, hash] = words[..] else {
                return Err(error(
                    "a name, a role and a SHA-256 are expected, such as the line that `token new` prints",
                ));
            };
            check_name(name).map_err(|what| error(&what))?;
            let role = role.parse().map_err(|what: String| error(&format!("the role {what}")))?;
            if hash.starts_with(PREFIX) {
                return Err(error(
                    "this is the token itself; use its SHA-256, which `token new` prints on its second line",
                ));
            }
            let hash = hash.parse().map_err(|what: String| error(&what))?;
            if tokens.iter().any(|token| *token.name == *name || token.hash == hash) {
                return Err(error(
                    "another token has this name or this SHA-256; each may occur only once",
                ));
            }
            if tokens.len() == TOKENS_MAX {
                return Err(error(&format!("a file may have at most {TOKENS_MAX} tokens")));
            }
            tokens.push(Arc::new(Token { name: name.into(), role, hash }));
        }
        Ok(Self(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, role: Role, token: &str) -> String {
        format!("{name} {} {}", role.name(), TokenHash::of(token.as_bytes()))
    }

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
    fn a_file_has_the_role_of_each_token() {
        let lines = Role::ALL.map(|role| line(role.name(), role, &format!("of {}", role.name())));
        let text =
            format!("# comment\n\n  {}  # the first\r\n\t{}\n{}", lines[0], lines[1], lines[2]);
        let tokens: Tokens = text.parse().unwrap();
        assert_eq!(tokens.len(), 3);
        for role in Role::ALL {
            let found = tokens.find(format!("of {}", role.name()).as_bytes()).unwrap();
            assert_eq!((found.role, &*found.name), (role, role.name()));
        }
        assert!(tokens.find(b"").is_none());
        assert!(tokens.find(b"of nobody").is_none());
        assert!(Tokens::default().find(b"of client").is_none());
    }

    #[test]
    fn an_error_in_a_file_names_the_line() {
        let good = line("a", Role::Client, "x");
        let cases = [
            ("a client", "line 1: a name, a role and a SHA-256 are expected"),
            (&good.replace("client", "root"), "line 1: the role must be client, admin or metrics"),
            (&format!("\n{good}0"), "line 2: a SHA-256 has 64 hexadecimal digits"),
            (&good.replace("a client", "a/b client"), "line 1: a name has 1 to 64 letters"),
            (&format!("{good}\n{good}"), "line 2: another token has this name"),
            (&format!("{good}\n{}", line("b", Role::Admin, "x")), "line 2: another token has"),
        ];
        for (text, wrong) in cases {
            let error = text.parse::<Tokens>().err().unwrap();
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
        let many = (0..=TOKENS_MAX).map(|i| line(&format!("t{i}"), Role::Client, &i.to_string()));
        let many: Vec<_> = many.collect();
        assert!(many[..TOKENS_MAX].join("\n").parse::<Tokens>().is_ok());
        assert!(many.join("\n").parse::<Tokens>().is_err());
    }

    #[test]
    fn tokens_differ_and_are_easily_sent() {
        let (a, b) = (new_token(&mut rand::rng()), new_token(&mut rand::rng()));
        assert_ne!(a, b);
        assert_eq!(a.len(), PREFIX.len() + 43);
        assert!(a.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
    }
}
