//! How far an import has come.

use crate::cli::counts::number;
use crate::cli::progress_bar::{Line, bar};

/// The width of the bar, in characters.
const WIDTH: usize = 20;

/// The line on standard error. If that is no terminal, nothing is written.
pub(super) struct Progress {
    /// Of the file in bytes, if it is known.
    length: Option<u64>,
    line: Line,
}

impl Progress {
    pub(super) fn new(length: Option<u64>) -> Self {
        Self { length, line: Line::new() }
    }

    /// Shows how much was read. O(1).
    pub(super) fn show(&mut self, lines: u64, bytes: u64) {
        self.line.show(&text(self.length, lines, bytes));
    }

    /// Removes the line. O(1).
    pub(super) fn clear(&mut self) {
        self.line.clear();
    }
}

fn text(length: Option<u64>, lines: u64, bytes: u64) -> String {
    let lines = number(&lines.into());
    match length.filter(|length| *length > 0) {
        Some(length) => format!("{}  {lines} lines", bar(WIDTH, bytes, length)),
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
