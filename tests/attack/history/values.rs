//! The values of keys of one's own: each key has the value that it was imported with.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use uuid::Uuid;

use crate::client::Answer;

/// All keys have this label.
pub(super) const LABEL: &str = "all:yes";

/// The values that clients know.
#[derive(Default)]
pub(super) struct Values {
    next: AtomicU64,
    of_keys: Mutex<HashMap<Uuid, String>>,
}

impl Values {
    /// The body that imports so many keys with new values.
    pub(super) fn import(&self, count: usize) -> String {
        let first = self.next.fetch_add(count as u64, Relaxed);
        let mut body = r#"{"keys":["#.to_owned();
        for number in first..first + count as u64 {
            let written = write!(
                body,
                r#"{{"value":"value-{number}","labels":{{"all":"yes","half":"{}"}}}},"#,
                number % 2
            );
            written.expect("writing to a string cannot fail");
        }
        body.pop();
        body + "]}"
    }

    /// Asserts that a lease gives the value that earlier leases of the key have given.
    pub(super) fn check(&self, key: Uuid, answer: &Answer) {
        let value =
            answer.body.split(r#""value":""#).nth(1).and_then(|rest| rest.split('"').next());
        let value = value.unwrap_or_else(|| panic!("no value: {answer:?}"));
        assert!(value.starts_with("value-"), "{answer:?}");
        let mut of_keys = self.of_keys.lock().unwrap();
        let known = of_keys.entry(key).or_insert_with(|| value.to_owned());
        assert_eq!(known, value, "a key has two values");
    }

    /// Asserts that no two keys have had the same value: each was imported once.
    pub(super) fn check_all(&self) {
        let of_keys = self.of_keys.lock().unwrap();
        let mut values: Vec<_> = of_keys.values().collect();
        values.sort();
        assert!(values.windows(2).all(|two| two[0] != two[1]), "two keys have the same value");
    }
}
