//! Which requests are allowed, by their tokens.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::{RwLock, RwLockUpgradableReadGuard};
use subtle::ConstantTimeEq;

use super::hosts::Hosts;
use super::token::Token;
use super::tokens::Tokens;
use crate::config::{read_file, unusable};
use crate::http::route::Need;
use crate::http::wire::Problem;
use crate::key::Quota;

/// The longest `Authorization` that a connection caches, in bytes.
const CACHED_BYTES_MAX: usize = 256;

/// Who may send which requests: any client, or clients with a token. Clones share the tokens.
#[derive(Clone)]
pub struct Access {
    guard: Option<Arc<Guard>>,
    hosts: Arc<Hosts>,
}

struct Guard {
    path: PathBuf,
    tokens: RwLock<Tokens>,
    /// The number of reloads.
    generation: AtomicU64,
}

/// The token of the last `Authorization` on a connection, so that the next request needs no hash. What it allows is
/// asked for each request: the next one may be about another pool.
pub(in crate::http) struct CachedRole {
    value: Box<[u8]>,
    token: Arc<Token>,
    generation: u64,
}

impl Access {
    /// Allows every request. O(1).
    #[must_use]
    pub fn open() -> Self {
        Self { guard: None, hosts: Arc::new(Hosts::Any) }
    }

    /// Allows every request that names the server by an IP address, as `localhost` or by one of `names`: so no
    /// page of another site can let its own name lead here. O(1).
    #[must_use]
    pub fn open_to_hosts(names: Vec<String>) -> Self {
        Self { guard: None, hosts: Arc::new(Hosts::Only(names)) }
    }

    /// Allows the requests that carry a token of a file. Each line of the file has the name, the role and
    /// the SHA-256 of a token, and perhaps its pools and its quota. O(length of the file).
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is malformed. The message names the file and the line.
    pub fn by_tokens(path: PathBuf) -> io::Result<Self> {
        let tokens = RwLock::new(read(&path)?);
        let guard = Guard { path, tokens, generation: AtomicU64::new(0) };
        // A page of another site has no token.
        Ok(Self { guard: Some(Arc::new(guard)), hosts: Arc::new(Hosts::Any) })
    }

    /// Whether requests need a token. O(1).
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// The number of tokens, if requests need one. O(1).
    #[must_use]
    pub fn token_count(&self) -> Option<usize> {
        self.guard.as_ref().map(|guard| guard.tokens.read().len())
    }

    /// The quotas of tokens, by the names of these. O(t) for t tokens.
    #[must_use]
    pub fn quotas(&self) -> HashMap<String, Arc<Quota>> {
        self.guard.as_ref().map_or_else(HashMap::new, |guard| guard.tokens.read().quotas())
    }

    /// Reloads the file and returns the number of tokens. A token that is no longer in the file is refused
    /// from the next request on. O(length of the file).
    ///
    /// # Errors
    ///
    /// As [`Access::by_tokens`]. The previous tokens then stay in force. A file that is empty is no error: all
    /// tokens are revoked.
    pub fn reload(&self) -> io::Result<usize> {
        let Some(guard) = &self.guard else { return Ok(0) };
        let mut tokens = read(&guard.path)?;
        let count = tokens.len();
        // Requests go on meanwhile; another reload waits.
        let before = guard.tokens.upgradable_read();
        tokens.inherit(&before);
        *RwLockUpgradableReadGuard::upgrade(before) = tokens;
        guard.generation.fetch_add(1, SeqCst);
        Ok(count)
    }

    /// Checks the host that a request names. O(length).
    ///
    /// # Errors
    ///
    /// [`Problem::MalformedHost`], or [`Problem::ForeignHost`] if the server may not be reached by this name.
    pub(in crate::http) fn check_host(&self, host: &[u8]) -> Result<(), Problem> {
        self.hosts.check(host)
    }

    /// The number of reloads, which changes whenever the tokens change. O(1).
    pub(in crate::http) fn generation(&self) -> u64 {
        self.guard.as_ref().map_or(0, |guard| guard.generation.load(SeqCst))
    }

    /// Checks that a request with this `Authorization` may do what takes `need`, in `pool`, or of no single pool. O(1)
    /// if the value is the one that the connection has cached, else O(t) for t tokens. A token for some pools
    /// takes O(p) more for p patterns.
    ///
    /// # Errors
    ///
    /// [`Problem::Unauthorized`] without a known token, [`Problem::Forbidden`] if its role is not enough,
    /// [`Problem::ForbiddenPool`] if it is not for the pool.
    pub(in crate::http) fn check(
        &self,
        value: Option<&[u8]>,
        need: Need,
        pool: Option<&str>,
        cached: &mut Option<Box<CachedRole>>,
    ) -> Result<(), Problem> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if need == Need::Nothing {
            return Ok(());
        }
        // Read before the tokens, so that a reload in between invalidates the cached token.
        let generation = guard.generation.load(SeqCst);
        let value = value.ok_or(Problem::Unauthorized { has_token: false })?;
        let is_same = |cached: &&CachedRole| {
            cached.generation == generation && cached.value.ct_eq(value).into()
        };
        if let Some(cached) = cached.as_deref().filter(is_same) {
            return cached.token.check(need, pool);
        }
        let token = bearer(value).ok_or(Problem::Unauthorized { has_token: false })?;
        let token = guard.tokens.read().find(token).map(Arc::clone);
        let token = token.ok_or(Problem::Unauthorized { has_token: true })?;
        let checked = token.check(need, pool);
        // A padded value must not cost each connection its length.
        *cached = (value.len() <= CACHED_BYTES_MAX)
            .then(|| Box::new(CachedRole { value: value.into(), token, generation }));
        checked
    }

    /// The token in the `Authorization` that [`Access::check`] has just checked, with its name and its quota, if it is
    /// known. O(1) if the value is the one that the connection has cached, else O(t) for t tokens.
    pub(in crate::http) fn token<'a>(
        &self,
        value: Option<&[u8]>,
        cached: Option<&'a CachedRole>,
    ) -> Option<Cow<'a, Arc<Token>>> {
        let (guard, value) = (self.guard.as_ref()?, value?);
        if let Some(cached) = cached.filter(|cached| cached.value.ct_eq(value).into()) {
            return Some(Cow::Borrowed(&cached.token));
        }
        let tokens = guard.tokens.read();
        tokens.find(bearer(value)?).map(|token| Cow::Owned(Arc::clone(token)))
    }
}

fn read(path: &Path) -> io::Result<Tokens> {
    let text = String::from_utf8(read_file(path)?);
    let text = text.map_err(|_| unusable(path, &"it is not UTF-8 text"))?;
    text.parse().map_err(|what: String| unusable(path, &what))
}

/// The token in an `Authorization`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::hash::TokenHash;
    use super::*;

    const VALUE: Option<&[u8]> = Some(b"Bearer x");

    struct File(PathBuf);

    impl File {
        /// A file with the token `x` that is for these pools.
        fn new(test: &str, end: &str) -> Self {
            let name = format!("token-orchestrator-access-{test}-{}", std::process::id());
            let file = Self(std::env::temp_dir().join(name));
            file.write(end);
            file
        }

        fn write(&self, end: &str) {
            fs::write(&self.0, format!("a client {} {end}", TokenHash::of(b"x"))).unwrap();
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_a_connection_has_cached_for_a_pool_holds_for_no_other() {
        let file = File::new("cached", "openai,b-*");
        let access = Access::by_tokens(file.0.clone()).unwrap();
        let check = |pool, cached: &mut _| {
            access.check(VALUE, Need::Use, pool, cached).map_err(|problem| match problem {
                Problem::ForbiddenPool { pool } => pool,
                _ => panic!("its role is enough"),
            })
        };
        let mut cached = None;
        for _ in 0..2 {
            assert_eq!(check(Some("openai"), &mut cached), Ok(()));
            assert_eq!(check(Some("default"), &mut cached), Err(Some("default".to_owned())));
            assert_eq!(check(None, &mut cached), Err(None));
            assert_eq!(check(Some("b-1"), &mut cached), Ok(()));
        }
        file.write("default");
        access.reload().unwrap();
        assert_eq!(check(Some("openai"), &mut cached), Err(Some("openai".to_owned())));
        assert_eq!(check(Some("default"), &mut cached), Ok(()));
    }

    #[test]
    fn a_request_has_the_quota_of_its_token() {
        let file = File::new("quota", "max-held=1");
        let access = Access::by_tokens(file.0.clone()).unwrap();
        let padded = format!("Bearer {}x", " ".repeat(CACHED_BYTES_MAX));
        let quota = |value: &[u8], cached: &mut Option<Box<CachedRole>>| {
            assert!(access.check(Some(value), Need::Use, Some("default"), cached).is_ok());
            let token = access.token(Some(value), cached.as_deref()).unwrap();
            assert_eq!(&*token.name, "a");
            token.quota.clone().unwrap()
        };
        let mut cached = None;
        assert!(quota(b"Bearer x", &mut cached).take());
        assert!(!quota(b"Bearer x", &mut cached).take(), "by the cached token");
        assert!(!quota(padded.as_bytes(), &mut cached).take(), "by one that is not cached");
        file.write("default max-held=2");
        access.reload().unwrap();
        assert!(quota(b"Bearer x", &mut cached).take(), "the new maximum applies at once");
        assert!(!quota(b"Bearer x", &mut cached).take(), "and what was taken before still counts");
        // A malformed file keeps the quotas as they are.
        file.write("max-held=100 default");
        assert!(access.reload().unwrap_err().to_string().contains("line 1: \"default\" is not"));
        assert!(!quota(b"Bearer x", &mut cached).take());
        assert!(Access::open().token(VALUE, cached.as_deref()).is_none());
    }
}
