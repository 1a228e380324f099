//! The file of an import, a batch at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::batch::{Batch, Entry};
use super::lines::{Labels, read};
use crate::config::unusable;
use crate::key::Value;

/// The longest line, in bytes. No key takes more, however it is written in JSON.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// What some programs write before a text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file.
pub(super) struct Source {
    path: PathBuf,
    input: BufReader<File>,
    /// Of the file, if it has one.
    length: Option<u64>,
    /// How many lines were read.
    lines: u64,
    /// How many bytes were read.
    bytes: u64,
    /// The latest line.
    line: Zeroizing<Vec<u8>>,
    labels: Labels,
    /// A key that did not fit into the batch before.
    left: Option<Entry>,
    goes_on: bool,
}

impl Source {
    /// Opens a file whose keys all get these labels.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened. The message names it.
    pub(super) fn open(path: &Path, labels: Labels) -> io::Result<Self> {
        let is_input = path == Path::new("-");
        let open = || {
            // The same file, without the lock and the buffer of the library.
            let owned = || io::stdin().as_fd().try_clone_to_owned();
            let file = if is_input { owned()?.into() } else { File::open(path)? };
            let about = file.metadata()?;
            Ok((file, Some(about.len()).filter(|_| about.is_file())))
        };
        let path = if is_input { Path::new("standard input") } else { path };
        let (file, length) = open().map_err(|error: io::Error| unusable(path, &error))?;
        let line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX + 1));
        let (path, input) = (path.to_owned(), BufReader::new(file));
        Ok(Self {
            path,
            input,
            length,
            lines: 0,
            bytes: 0,
            line,
            labels,
            left: None,
            goes_on: false,
        })
    }

    /// The length of the file in bytes, if it has one.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// How many lines were read.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// How many bytes were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there may be another batch after the latest one, as far as is known without a look at the file.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The next batch. It is empty at the end of the file. O(bytes).
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(super) fn batch(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        // An empty batch takes any key.
        self.left = self.left.take().and_then(|entry| batch.push(entry).err());
        while self.left.is_none() && !batch.is_full() {
            let is_whole = match self.next().map_err(|error| unusable(&self.path, &error))? {
                Next::End => break,
                Next::Line => true,
                Next::TooLong => false,
            };
            let line = trimmed(&self.line, self.lines == 1);
            let entry = match line {
                _ if !is_whole => {
                    let max = Value::CHARS_MAX;
                    Err(format!("it is longer than any key: a value has 1 to {max} characters"))
                }
                [] => continue,
                line => read(self.lines, line, &self.labels),
            };
            match entry {
                Ok(entry) => self.left = batch.push(entry).err(),
                Err(why) => batch.refuse_line(self.lines, why),
            }
        }
        self.goes_on = self.left.is_some() || batch.is_full();
        Ok(batch)
    }

    /// Reads a line, or its beginning if it is too long. O(length).
    fn next(&mut self) -> io::Result<Next> {
        self.line.clear();
        let mut begin = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1);
        let mut length = begin.read_until(b'\n', &mut self.line)?;
        if length == 0 {
            return Ok(Next::End);
        }
        let is_whole = length <= LINE_BYTES_MAX || self.line.ends_with(b"\n");
        if !is_whole {
            length += self.input.skip_until(b'\n')?;
        }
        self.lines += 1;
        self.bytes += length as u64;
        Ok(if is_whole { Next::Line } else { Next::TooLong })
    }
}

enum Next {
    End,
    Line,
    TooLong,
}

/// A line without its end and the spaces around it, and the first one without a mark of its encoding.
fn trimmed(line: &[u8], is_first: bool) -> &[u8] {
    let line = if is_first { line.strip_prefix(MARK).unwrap_or(line) } else { line };
    line.trim_ascii()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;
    use std::{env, fs, process};

    use super::*;

    /// A source that reads this text.
    fn source(text: &[u8]) -> Source {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("import-{}-{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let source = Source::open(&path, Labels::new()).unwrap();
        fs::remove_file(path).unwrap();
        source
    }

    /// The lines of keys and of refused lines of each batch.
    fn batches(source: &mut Source) -> Vec<(u64, Vec<u64>, bool)> {
        let mut batches = Vec::new();
        loop {
            let batch = source.batch().unwrap();
            if batch.is_empty() {
                return batches;
            }
            let keys = batch.len();
            let refused = batch.into_refused().into_iter().map(|(line, _)| line).collect();
            batches.push((keys, refused, source.goes_on()));
        }
    }

    #[test]
    fn a_line_ends_as_files_have_it() {
        let mut source = source(b"\xef\xbb\xbfa\r\n\n \t\r\n b\t\rc \nd");
        let batch = source.batch().unwrap();
        let body = batch.body().unwrap().to_vec();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"keys":[{"value":"a"},{"value":"b\t\rc"},{"value":"d"}]}"#
        );
        assert_eq!((source.lines(), source.bytes(), source.length()), (5, 19, Some(19)));
        assert!(source.batch().unwrap().is_empty());
        assert!(batches(&mut self::source(b"\n\r\n")).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_skipped() {
        let long = |length| "x".repeat(length);
        let text =
            [long(LINE_BYTES_MAX + 1), "a".to_owned(), long(1 << 20), "b\n".to_owned()].join("\n");
        let mut source = source(text.as_bytes());
        assert_eq!(batches(&mut source), [(2, vec![1, 3], false)]);
        assert_eq!(source.bytes(), text.len() as u64);
        // The longest that JSON can make of a value.
        let escaped = format!("{{\"value\":\"{}\"}}", "\\ud83d\\udd11".repeat(4096));
        assert_eq!(batches(&mut self::source(escaped.as_bytes())), [(1, vec![], false)]);
    }

    #[test]
    fn a_batch_has_a_thousand_lines_or_what_a_request_may_have() {
        let mut source = source("x\n".repeat(2500).as_bytes());
        let expected = [(1000, vec![], true), (1000, vec![], true), (500, vec![], false)];
        assert_eq!(batches(&mut source), expected);
        // Refused lines count, so that a file that has nothing else is told of while it is read.
        let mut source = self::source("{\n".repeat(1001).as_bytes());
        let sizes =
            batches(&mut source).into_iter().map(|(keys, refused, _)| (keys, refused.len()));
        assert_eq!(sizes.collect::<Vec<_>>(), [(0, 1000), (0, 1)]);
        // No key is lost where a request is full.
        let line = "\u{1}".repeat(4096) + "\n";
        let mut source = self::source(line.repeat(400).as_bytes());
        let sizes = batches(&mut source).into_iter().map(|(keys, ..)| keys).collect::<Vec<_>>();
        assert_eq!(sizes, [170, 170, 60]);
    }
}
