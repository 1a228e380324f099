//! Keys that are imported by one request.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::http::BATCH_BYTES_MAX;
use crate::key::Value;

/// The most keys and refused lines of a batch.
pub(super) const LINES_MAX: usize = 1000;
const BEGIN: &[u8] = br#"{"keys":["#;
const END: &[u8] = b"]}";

/// A key as a request has it, in JSON, and the line that it comes from. It is zeroed when it is dropped.
pub(super) struct Entry {
    line: u64,
    json: Zeroizing<Vec<u8>>,
}

impl Entry {
    /// A key with this value and these labels. O(length).
    pub(super) fn new(line: u64, value: &Value, labels: &BTreeMap<String, String>) -> Self {
        #[derive(Serialize)]
        struct Key<'a> {
            #[serde(serialize_with = "reveal")]
            value: &'a Value,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            labels: &'a BTreeMap<String, String>,
        }
        fn reveal<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(value.reveal())
        }
        // Enough in nearly all cases, so that no copy is left behind where the text grows.
        let mut json = Zeroizing::new(Vec::with_capacity(2 * value.reveal().len() + 2048));
        serde_json::to_writer(&mut *json, &Key { value, labels }).expect("strings");
        Self { line, json }
    }
}

/// Keys that are imported by one request, and the lines among them that are refused.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    /// Of the entries.
    bytes: usize,
    /// With the reasons.
    refused: Vec<(u64, String)>,
}

impl Batch {
    /// Whether there is nothing to send and nothing to tell. O(1).
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.refused.is_empty()
    }

    /// Whether it has as many lines as it may have. O(1).
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() + self.refused.len() >= LINES_MAX
    }

    /// How many keys there are to import. O(1).
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The line of the first key. O(1).
    pub(super) fn first_line(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.line)
    }

    /// Adds a key. Gives it back if the request would be too large with it. O(1).
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Entry> {
        // With a comma behind each.
        let bytes = self.bytes + entry.json.len() + 1;
        if BEGIN.len() + bytes + END.len() >= BATCH_BYTES_MAX && !self.entries.is_empty() {
            return Err(entry);
        }
        self.bytes = bytes;
        self.entries.push(entry);
        Ok(())
    }

    /// Notes that a line is refused. O(1).
    pub(super) fn refuse_line(&mut self, line: u64, why: String) {
        self.refused.push((line, why));
    }

    /// Refuses the key at this place. False if there is none. O(keys).
    pub(super) fn refuse(&mut self, place: usize, why: &str) -> bool {
        if place >= self.entries.len() {
            return false;
        }
        let entry = self.entries.remove(place);
        self.bytes -= entry.json.len() + 1;
        self.refused.push((entry.line, why.to_owned()));
        true
    }

    /// The body of the request, which is zeroed when it is dropped. `None` if no key is left. O(bytes).
    pub(super) fn body(&self) -> Option<Bytes> {
        let (first, others) = self.entries.split_first()?;
        let size = BEGIN.len() + self.bytes + END.len();
        let mut body = Zeroizing::new(Vec::with_capacity(size));
        body.extend_from_slice(BEGIN);
        body.extend_from_slice(&first.json);
        for entry in others {
            body.push(b',');
            body.extend_from_slice(&entry.json);
        }
        body.extend_from_slice(END);
        Some(Bytes::from_owner(body))
    }

    /// The lines that were refused, in their order, with the reasons. O(n log n).
    pub(super) fn into_refused(mut self) -> Vec<(u64, String)> {
        self.refused.sort_by_key(|(line, _)| *line);
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: u64, value: &str) -> Entry {
        Entry::new(line, &Value::new(value).unwrap(), &BTreeMap::new())
    }

    fn body(batch: &Batch) -> String {
        String::from_utf8(batch.body().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_key_that_is_refused_is_left_out() {
        let mut batch = Batch::default();
        assert!(batch.is_empty() && batch.body().is_none());
        let labels = BTreeMap::from([("plan".to_owned(), "\"pro\"".to_owned())]);
        let labelled = Entry::new(2, &Value::new("a\"b").unwrap(), &labels);
        for entry in [labelled, entry(3, "c"), entry(5, "d")] {
            assert!(batch.push(entry).is_ok());
        }
        batch.refuse_line(4, "not so".to_owned());
        assert!(batch.refuse(1, "nor so") && !batch.refuse(2, "there is none"));
        assert_eq!(
            body(&batch),
            r#"{"keys":[{"value":"a\"b","labels":{"plan":"\"pro\""}},{"value":"d"}]}"#
        );
        assert_eq!((batch.first_line(), batch.len()), (Some(2), 2));
        let refused = batch.into_refused();
        assert_eq!(refused, [(3, "nor so".to_owned()), (4, "not so".to_owned())]);
    }

    #[test]
    fn a_request_is_not_larger_than_the_server_takes() {
        // Each character takes six bytes in JSON.
        let (value, mut batch) = ("\u{1}".repeat(4096), Batch::default());
        while batch.push(entry(1, &value)).is_ok() {}
        let (length, one) = (body(&batch).len(), 6 * 4096 + 12);
        assert!(length < BATCH_BYTES_MAX && length + one + 1 >= BATCH_BYTES_MAX, "{length}");
        assert!(!batch.is_full());
        let mut batch = Batch::default();
        for line in 0..LINES_MAX as u64 {
            assert!(!batch.is_full() && batch.push(entry(line, "x")).is_ok());
        }
        assert!(batch.is_full());
    }
}
