//! The audit log: where its lines go, and opening its file again.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::log_writer::{LastLines, Lines, Output};
use crate::config::unusable;
use crate::http::AuditLog;

/// How many lines may wait to be written: some ten megabytes, or the requests of a tenth of a second.
const LINES_MAX: usize = 20_000;
/// Only the server's own user may read the file, unless it was there before.
const MODE: u32 = 0o600;

/// Where the lines go.
#[derive(Clone)]
pub(super) enum Target {
    Stderr,
    File(PathBuf),
}

impl From<OsString> for Target {
    fn from(text: OsString) -> Self {
        if text == "stderr" { Self::Stderr } else { Self::File(text.into()) }
    }
}

/// An audit log that was started.
pub(super) struct Audit {
    pub(super) log: AuditLog,
    pub(super) file: Option<AuditFile>,
    /// When this is dropped, the last lines are written.
    _last: LastLines,
}

/// The file of the lines. Clones are the same file.
#[derive(Clone)]
pub(super) struct AuditFile {
    path: Arc<Path>,
    /// The file for the next lines, once it was opened again.
    next: Arc<Mutex<Option<File>>>,
}

/// The file as the thread that writes it sees it.
struct Current {
    file: File,
    next: Arc<Mutex<Option<File>>>,
}

/// Starts the audit log.
///
/// # Errors
///
/// If the file cannot be opened, or the system has no more threads. The message names the file.
pub(super) fn start(target: &Target) -> io::Result<Audit> {
    let start = match target {
        Target::Stderr => (start_lines(io::stderr())?, None),
        Target::File(path) => {
            let file = open(path)?;
            let next = Arc::<Mutex<Option<File>>>::default();
            let current = Current { file, next: Arc::clone(&next) };
            (start_lines(current)?, Some(AuditFile { path: path.as_path().into(), next }))
        }
    };
    let ((lines, last), file) = start;
    let dropped = lines.dropped();
    let log = AuditLog::new(move |line| lines.take(line), dropped);
    Ok(Audit { log, file, _last: last })
}

fn start_lines(output: impl Output) -> io::Result<(Lines, LastLines)> {
    Lines::start(output, LINES_MAX, AuditLog::line_of_dropped)
}

/// Opens a file to append to it.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    // A pipe without a reader is refused, and does not hold up the start.
    let open =
        OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path);
    let file = open.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NXIO) => unusable(path, &"nobody reads this pipe; start its reader first"),
        _ => unusable(path, &error),
    })?;
    // From here on a write waits for the reader, in the thread that only writes lines.
    rustix::io::ioctl_fionbio(&file, false).map_err(|error| unusable(path, &error))?;
    Ok(file)
}

impl AuditFile {
    /// Opens the file again, so that a program that rotates logs can move it away. O(1).
    ///
    /// # Errors
    ///
    /// If that fails. Lines still go to the previous file then.
    pub(super) fn reopen(&self) -> io::Result<()> {
        *self.next.lock() = Some(open(&self.path)?);
        Ok(())
    }
}

impl Output for Current {
    fn renew(&mut self) {
        if let Some(file) = self.next.lock().take() {
            self.file = file;
        }
    }
}

impl Write for Current {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
