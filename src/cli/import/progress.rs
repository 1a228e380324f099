//! How far an import has come: a line of a terminal that is written again and again.

use std::io::{IsTerminal, Write, stderr};

use crate::cli::counts::number;

/// The width of the bar, in characters.
const WIDTH: u64 = 20;

/// The line on standard error. If that is no terminal, nothing is written.
pub(super) struct Progress {
    /// Of the file in bytes, if it is known.
    length: Option<u64>,
    is_terminal: bool,
    /// The characters of the line that is shown.
    shown: usize,
}

impl Progress {
    pub(super) fn new(length: Option<u64>) -> Self {
        Self { length, is_terminal: stderr().is_terminal(), shown: 0 }
    }

    /// Shows how much was read. O(1).
    pub(super) fn show(&mut self, lines: u64, bytes: u64) {
        self.write(&text(self.length, lines, bytes));
    }

    /// Removes the line. O(1).
    pub(super) fn clear(&mut self) {
        if self.shown > 0 {
            self.write("");
        }
    }

    /// Writes a text over the line. Spaces cover what is left of that, as every terminal understands.
    fn write(&mut self, text: &str) {
        if !self.is_terminal {
            return;
        }
        let (width, length) = (self.shown, text.chars().count());
        let rest = if text.is_empty() { "\r" } else { "" };
        let _ = write!(stderr(), "\r{text:<width$}{rest}").and_then(|()| stderr().flush());
        self.shown = length;
    }
}

fn text(length: Option<u64>, lines: u64, bytes: u64) -> String {
    let lines = number(&lines.into());
    match length.filter(|length| *length > 0) {
        Some(length) => {
            // A file may grow while it is read.
            let part = |of: u64| bytes.min(length).saturating_mul(of) / length;
            let bar = "#".repeat(usize::try_from(part(WIDTH)).unwrap_or(0));
            let width = usize::try_from(WIDTH).unwrap_or(0);
            format!("[{bar:.<width$}] {:>3} %  {lines} lines", part(100))
        }
        None => format!("{lines} lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_much_was_read() {
        assert_eq!(text(Some(200), 1000, 0), "[....................]   0 %  1,000 lines");
        assert_eq!(text(Some(200), 2000, 99), "[#########...........]  49 %  2,000 lines");
        for bytes in [200, 201] {
            assert_eq!(text(Some(200), 1, bytes), "[####################] 100 %  1 lines");
        }
        assert_eq!(text(None, 3000, 99), "3,000 lines");
        assert_eq!(text(Some(0), 3000, 99), "3,000 lines");
    }
}
