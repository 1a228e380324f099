//! Whether a request may do what it asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::RwLock;
use subtle::ConstantTimeEq;

use super::roles::Role;
use super::tokens::Tokens;
use crate::config::{read_file, unusable};
use crate::http::route::Need;
use crate::http::wire::Problem;

/// The longest `Authorization` that is kept, in bytes.
const PASS_BYTES_MAX: usize = 256;
/// What is asked of those who come. Clones share it.
#[derive(Clone)]
pub struct Access(Option<Arc<Guard>>);

struct Guard {
    path: PathBuf,
    tokens: RwLock<Tokens>,
    /// Rises whenever the tokens change.
    generation: AtomicU64,
}

/// What a connection was allowed by the token that it sent last, so that the next request needs no hash.
pub(in crate::http) struct Pass {
    value: Box<[u8]>,
    role: Role,
    generation: u64,
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Only those may who have a token of a file: a line for each with its name, its role and its
    /// SHA-256. O(length of the file).
    ///
    /// # Errors
    ///
    /// If it cannot be read, or says something else; the message names the file.
    pub fn by_tokens(path: PathBuf) -> io::Result<Self> {
        let tokens = RwLock::new(read(&path)?);
        Ok(Self(Some(Arc::new(Guard { path, tokens, generation: AtomicU64::new(0) }))))
    }

    /// Whether tokens are asked for.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.0.is_some()
    }

    /// How many tokens there are, if they are asked for. O(1).
    #[must_use]
    pub fn token_count(&self) -> Option<usize> {
        self.0.as_ref().map(|guard| guard.tokens.read().len())
    }

    /// Reads the file again and answers how many tokens there are. What was taken out of it is of no
    /// more use, from the next request on.
    ///
    /// # Errors
    ///
    /// As [`Access::by_tokens`]; then the tokens stay as they were.
    pub fn reload(&self) -> io::Result<usize> {
        let Some(guard) = &self.0 else { return Ok(0) };
        let tokens = read(&guard.path)?;
        let (count, before) = (tokens.len(), guard.tokens.read().len());
        if count == 0 && before > 0 {
            // As of a file that is being written.
            return Err(unusable(&guard.path, &"it has no token any more"));
        }
        *guard.tokens.write() = tokens;
        guard.generation.fetch_add(1, SeqCst);
        Ok(count)
    }

    /// Another number whenever the tokens have changed. O(1).
    pub(in crate::http) fn generation(&self) -> u64 {
        self.0.as_ref().map_or(0, |guard| guard.generation.load(SeqCst))
    }

    /// Whether a request with this `Authorization` may do what takes `need`. O(1) for the value that
    /// came before by the same connection, else O(t) for t tokens.
    ///
    /// # Errors
    ///
    /// [`Problem::Unauthorized`], [`Problem::Forbidden`]
    pub(in crate::http) fn check(
        &self,
        value: Option<&[u8]>,
        need: Need,
        pass: &mut Option<Box<Pass>>,
    ) -> Result<(), Problem> {
        let Some(guard) = &self.0 else { return Ok(()) };
        if need == Need::Nothing {
            return Ok(());
        }
        // Before the tokens: what changes after it makes the pass invalid.
        let generation = guard.generation.load(SeqCst);
        let value = value.ok_or(Problem::Unauthorized { has_token: false })?;
        let is_same =
            |pass: &&Pass| pass.generation == generation && pass.value.ct_eq(value).into();
        let role = if let Some(pass) = pass.as_deref().filter(is_same) {
            pass.role
        } else {
            let token = bearer(value).ok_or(Problem::Unauthorized { has_token: false })?;
            let role = guard.tokens.read().role(token);
            let role = role.ok_or(Problem::Unauthorized { has_token: true })?;
            // One that is padded is no reason to keep so much for each connection.
            *pass = (value.len() <= PASS_BYTES_MAX)
                .then(|| Box::new(Pass { value: value.into(), role, generation }));
            role
        };
        if role.allows(need) {
            return Ok(());
        }
        Err(Problem::Forbidden { role: Role::to_name_for(need).name() })
    }
}

fn read(path: &Path) -> io::Result<Tokens> {
    let text = String::from_utf8(read_file(path)?);
    let text = text.map_err(|_| unusable(path, &"it is not UTF-8"))?;
    text.parse().map_err(|what: String| unusable(path, &what))
}

/// The token in an `Authorization`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
