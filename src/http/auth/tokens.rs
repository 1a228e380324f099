//! The file that lists tokens.

use std::str::FromStr;
use std::sync::Arc;

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::hash::TokenHash;
use super::token::Token;

/// The most tokens in a file. The token of a request is compared with all of them.
const TOKENS_MAX: usize = 1000;

/// The tokens of a file.
#[derive(Default)]
pub(super) struct Tokens {
    tokens: Vec<Arc<Token>>,
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// What the file says of a token. It takes the same time for an unknown token. O(t) for t tokens.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Arc<Token>> {
        let hash = TokenHash::of(token);
        let mut found = u32::MAX;
        for (index, token) in (0..).zip(&self.tokens) {
            let is_equal: Choice = token.hash.ct_eq(&hash);
            found.conditional_assign(&index, is_equal);
        }
        self.tokens.get(usize::try_from(found).ok()?)
    }
}

impl FromStr for Tokens {
    type Err = String;

    /// Reads the text of a file: a token a line. A `#` begins a comment. O(t²) for t tokens.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::<Arc<Token>>::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            if line.trim_ascii().is_empty() {
                continue;
            }
            let error = |what: &str| format!("line {number}: {what}");
            let new: Token = line.parse().map_err(|what: String| error(&what))?;
            if tokens.iter().any(|token| token.name == new.name || token.hash == new.hash) {
                return Err(error(
                    "another token has this name or this SHA-256; each may occur only once",
                ));
            }
            if tokens.len() == TOKENS_MAX {
                return Err(error(&format!("a file may have at most {TOKENS_MAX} tokens")));
            }
            tokens.push(Arc::new(new));
        }
        Ok(Self { tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::super::roles::Role;
    use super::*;
    use crate::http::route::Need;

    fn line(name: &str, role: Role, token: &str) -> String {
        format!("{name} {} {}", role.name(), TokenHash::of(token.as_bytes()))
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
            assert_eq!(&*found.name, role.name());
            assert_eq!(found.check(Need::Manage, None).is_ok(), role == Role::Admin);
            assert_eq!(found.check(Need::Use, None).is_ok(), role != Role::Metrics);
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
            (&format!("{good}\n{good} OpenAI"), "line 2: \"OpenAI\" cannot be the name of a pool"),
            (&format!("{good} a max=1"), "line 1: \"max=1\" is unknown"),
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
}
