//! Messages to the user on standard error, whatever the command.

use std::io::Write;

/// Writes a line to standard error. A closed standard error is no reason to panic.
pub(super) fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
