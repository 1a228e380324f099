//! Why a data directory cannot be opened, in words for its operator.

use std::fmt;
use std::io::{self, ErrorKind};

/// Why a data directory cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses it.
    Locked,
    /// The disk has lost or changed something that was written.
    Damaged {
        /// The file.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A repair of the directory was interrupted.
    RepairUnfinished,
    /// A later version of the program has written it.
    NewerFormat {
        /// The file.
        file: String,
        /// The version of its format.
        version: u32,
        /// The latest one that this program reads.
        known: u32,
    },
    /// It is sealed, and no key was given.
    KeyMissing,
    /// It is sealed with another key.
    WrongKey {
        /// The file.
        file: String,
    },
    /// A key was given, but it is not sealed.
    NotSealed,
    /// The system refuses.
    Io {
        /// The file, or nothing for the directory.
        file: String,
        /// What the system says.
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn damaged(file: &str, offset: u64, what: &str) -> Self {
        Self::Damaged { file: file.to_owned(), offset, what: what.to_owned() }
    }

    /// What the system says about a file.
    pub(crate) fn io(file: &str) -> impl FnOnce(io::Error) -> Self {
        |error| Self::Io { file: file.to_owned(), error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str(
                "another process uses the directory: stop that server first, or name another directory. `token-orchestrator data \
                 copy` copies one that is in use",
            ),
            Self::Damaged { file, offset, what } => write!(
                f,
                "{file} is damaged at byte {offset}: {what}. Restore the directory from a backup, or keep what is whole of it with \
                 `token-orchestrator data repair`"
            ),
            Self::RepairUnfinished => f.write_str(
                "a repair of the directory was interrupted: run `token-orchestrator data repair` on it again",
            ),
            Self::NewerFormat { file, version, known } => write!(
                f,
                "{file} has format {version}, and this program reads format {known} at most: run the version that wrote it, or a \
                 later one"
            ),
            Self::KeyMissing => f.write_str("the directory is encrypted: give its key with --data-key-file FILE"),
            Self::WrongKey { file } => {
                write!(
                    f,
                    "{file} is encrypted with another key than that in --data-key-file: give the one that the directory was made with"
                )
            }
            Self::NotSealed => f.write_str(
                "the directory is not encrypted: leave out --data-key-file, or begin with an empty directory",
            ),
            Self::Io { file, error } => {
                let colon = if file.is_empty() { "" } else { ": " };
                write!(f, "{file}{colon}{error}{}", advice(error.kind()))
            }
        }
    }
}

/// What to do about what the system says.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull => ": make room on the disk",
        ErrorKind::PermissionDenied => ": the directory must belong to the user of this process",
        ErrorKind::ReadOnlyFilesystem => ": the disk must be writable",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => ": name a directory",
        _ => "",
    }
}

impl std::error::Error for OpenError {}
