//! What the user is told, whatever the command.

use std::io::Write;

/// Tells the user something. That nobody listens is no reason to panic.
pub(super) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
