//! The file that lists tokens.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Weak};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::hash::TokenHash;
use super::token::Token;
use crate::key::Quota;

/// The most tokens in a file. The token of a request is compared with all of them.
const TOKENS_MAX: usize = 1000;

/// The tokens of a file.
#[derive(Default)]
pub(super) struct Tokens {
    tokens: Vec<Arc<Token>>,
    /// The quotas by the names of their tokens, also those that were taken out of the file while leases count
    /// against them: if such a name comes back, they still count.
    quotas: HashMap<Arc<str>, Weak<Quota>>,
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

    /// The quotas, by the names of their tokens. O(t) for t tokens.
    pub(super) fn quotas(&self) -> HashMap<String, Arc<Quota>> {
        let quota = |token: &Arc<Token>| Some((token.name.to_string(), token.quota.clone()?));
        self.tokens.iter().filter_map(quota).collect()
    }

    /// Takes over the quotas of `before`, with what is taken of them. The maxima of this file apply at once. To
    /// be called before a token is given out. O(t) for t tokens, and for those before whose leases last.
    pub(super) fn inherit(&mut self, before: &Self) {
        for (name, quota) in &before.quotas {
            if quota.strong_count() > 0 {
                self.quotas.insert(Arc::clone(name), Weak::clone(quota));
            }
        }
        for token in self.tokens.iter_mut().filter_map(Arc::get_mut) {
            let Some(mut quota) = token.quota.clone() else { continue };
            if let Some(kept) = self.quotas.get(&token.name).and_then(Weak::upgrade) {
                kept.set_max(quota.max());
                token.set_quota(Arc::clone(&kept));
                quota = kept;
            }
            self.quotas.insert(Arc::clone(&token.name), Arc::downgrade(&quota));
        }
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
        let mut new = Self { tokens, ..Self::default() };
        new.inherit(&Self::default());
        Ok(new)
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
            (&format!("{good} a max-held=0"), "line 1: \"max-held=0\": max-held must be"),
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

    /// The quota of the token `name` after a reload that says `max` of it.
    fn reloaded(tokens: &mut Tokens, name: &str, max: Option<usize>) -> Option<Arc<Quota>> {
        let end = max.map(|max| format!(" max-held={max}")).unwrap_or_default();
        let text = format!("{}{end}", line(name, Role::Client, "x"));
        let mut after: Tokens = text.parse().unwrap();
        after.inherit(tokens);
        *tokens = after;
        tokens.find(b"x").unwrap().quota.clone()
    }

    #[test]
    fn a_quota_survives_reloads_by_the_name_of_its_token() {
        let mut tokens = Tokens::default();
        let quota = reloaded(&mut tokens, "a", Some(2)).unwrap();
        assert!(quota.take() && quota.take());
        let same = reloaded(&mut tokens, "a", Some(1)).unwrap();
        assert_eq!((same.held(), same.max(), same.take()), (2, 1, false));
        assert!(Arc::ptr_eq(&quota, &same));
        assert_eq!(reloaded(&mut tokens, "b", Some(2)).unwrap().held(), 0);
        assert!(reloaded(&mut tokens, "a", None).is_none());
        // What it has leased still counts when it comes back.
        let back = reloaded(&mut tokens, "a", Some(3)).unwrap();
        assert_eq!((back.held(), back.max()), (2, 3));
        // Nobody has the quota of `b` any more.
        assert_eq!(tokens.quotas.keys().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
        drop((quota, same, back));
        assert!(reloaded(&mut tokens, "b", None).is_none());
        assert!(reloaded(&mut tokens, "a", Some(3)).unwrap().take(), "its leases have ended");
    }
}
