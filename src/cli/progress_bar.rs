//! How far something long has come: a line of a terminal that is written again and again.

use std::io::{IsTerminal, Write, stderr};

use rustix::termios::tcgetwinsize;

/// The width of a terminal that does not tell it, in characters.
const COLUMNS: usize = 80;

/// A line on standard error. If that is no terminal, nothing is written.
pub(super) struct Line {
    is_terminal: bool,
    /// The characters of the line that is shown.
    shown: usize,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { is_terminal: stderr().is_terminal(), shown: 0 }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Removes the line. O(1).
    pub(super) fn clear(&mut self) {
        if self.shown > 0 {
            self.show("");
        }
    }

    /// Writes a text over the line. Spaces cover what is left of the former one, as every terminal understands. O(length).
    pub(super) fn show(&mut self, text: &str) {
        if !self.is_terminal {
            return;
        }
        let (width, length) = (self.shown, text.chars().count());
        let rest = if text.is_empty() { "\r" } else { "" };
        let _ = write!(stderr(), "\r{text:<width$}{rest}").and_then(|()| stderr().flush());
        self.shown = length;
    }
}

/// How many characters a line of the terminal has now.
pub(super) fn columns() -> usize {
    let size = tcgetwinsize(stderr());
    size.map_or(COLUMNS, |size| if size.ws_col == 0 { COLUMNS } else { size.ws_col.into() })
}

/// A bar of so many characters and two brackets, and how much is done: a file may grow while it is read.
pub(super) fn bar(width: usize, done: u64, all: u64) -> String {
    let part = |of: u64| {
        let part = u128::from(done.min(all)) * u128::from(of) / u128::from(all.max(1));
        usize::try_from(part).unwrap_or(0)
    };
    let bar = "#".repeat(part(width as u64));
    format!("[{bar:.<width$}] {:>3} %", part(100))
}
