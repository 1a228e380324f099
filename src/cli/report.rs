//! What is written to the terminal, whatever the command.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write, stderr, stdout};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes a line to standard error. A closed standard error is no reason to panic.
pub(super) fn report(line: &str) {
    let _ = writeln!(stderr(), "{}", printable(line));
}

/// Writes a line to standard error if that is possible at once: where nobody reads a pipe, the line is
/// dropped.
pub(super) fn report_at_once(line: &str) {
    if can_write_at_once() {
        report(line);
    }
}

/// Whether standard error takes a line without blocking: a pipe that nobody reads does not, nor does a terminal that
/// was stopped.
pub(super) fn can_write_at_once() -> bool {
    let error = stderr();
    let mut ready = [PollFd::new(&error, PollFlags::OUT)];
    // A pipe that is ready takes 4096 bytes.
    poll(&mut ready, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Writes lines to standard output. False if its reader has closed the pipe, which is no error: nobody needs
/// more.
///
/// # Errors
///
/// The message for the user, if the lines cannot be written.
pub(super) fn print(text: &str) -> Result<bool, String> {
    match writeln!(stdout(), "{}", printable(text)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("error: {error}")),
    }
}

/// The text without what a terminal obeys: control characters, except line breaks, and those that change the
/// direction of text. A server might send them. Each becomes its escape in JSON, so JSON stays the same JSON.
/// O(length).
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len() + 32);
    for character in text.chars() {
        if is_obeyed(character) {
            // All of them have at most four digits.
            let _ = write!(printable, "\\u{:04x}", u32::from(character));
        } else {
            printable.push(character);
        }
    }
    Cow::Owned(printable)
}

fn is_obeyed(character: char) -> bool {
    let changes_direction = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    changes_direction || (character.is_control() && character != '\n')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        for (text, expected) in [
            ("one\ntwo ü 漢 🔑", "one\ntwo ü 漢 🔑"),
            ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
            ("a\rb\tc\x7f\u{9b}31m", "a\\u000db\\u0009c\\u007f\\u009b31m"),
            ("abc\u{202e}cba\u{2069}", "abc\\u202ecba\\u2069"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let hostile: String = (0..0x3000).filter_map(char::from_u32).collect();
        let value = json!({ hostile.clone(): [hostile] });
        let text = value.to_string();
        let printed = printable(&text);
        assert!(!printed.contains(is_obeyed) && printed != text);
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value);
    }
}
