//! What a line of an import says: a value, or a key in JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::batch::Entry;
use crate::key::{Label, Value};

/// Labels, by their names.
pub(super) type Labels = BTreeMap<String, String>;

/// The labels that all keys get.
///
/// # Errors
///
/// If they are too many, or two have the same name.
pub(super) fn labels(given: &[Label]) -> Result<Labels, String> {
    let mut labels = Labels::new();
    for label in given {
        if labels.insert(label.name().to_owned(), label.value().to_owned()).is_some() {
            let name = label.name();
            return Err(format!("--label names {name} twice: a key has one label of a name."));
        }
    }
    if labels.len() > Label::COUNT_MAX {
        return Err(format!("a key has at most {} labels: give fewer --label.", Label::COUNT_MAX));
    }
    Ok(labels)
}

/// A key in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(deserialize_with = "secret")]
    value: Zeroizing<String>,
    #[serde(default, deserialize_with = "of_line")]
    labels: Labels,
}

/// A text that is zeroed when it is dropped.
fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    // The error would quote a value that is a number.
    let text = String::deserialize(text).map_err(|_| D::Error::custom("its value must be a text"));
    text.map(Zeroizing::new)
}

/// The labels of a line, of which none may have the name of another one.
fn of_line<'de, D: Deserializer<'de>>(object: D) -> Result<Labels, D::Error> {
    struct Distinct;
    impl<'de> Visitor<'de> for Distinct {
        type Value = Labels;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Labels, A::Error> {
            let mut labels = Labels::new();
            while let Some(name) = items.next_key()? {
                let value = items.next_value();
                let value = value
                    .map_err(|_| A::Error::custom("the values of its labels must be texts"))?;
                if labels.insert(name, value).is_some() {
                    return Err(A::Error::custom("it has two labels of the same name"));
                }
            }
            Ok(labels)
        }
    }
    object.deserialize_map(Distinct).map_err(|error| {
        let told = error.to_string();
        let is_told = told.starts_with("the values") || told.starts_with("it has two");
        D::Error::custom(if is_told { told } else { "its labels must be an object".to_owned() })
    })
}

/// What is wrong with a line that is JSON, but no key. An error of the library may quote the value.
fn wrong(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let told = told.split(" at line ").next().unwrap_or_default();
    let what = match told.split(' ').next() {
        Some("unknown") => "its fields may be value and labels only",
        Some("missing") => "it has no value",
        Some("duplicate") => "it has a field twice",
        _ => told,
    };
    format!("{what}; a key looks like {{\"value\":\"sk-1\",\"labels\":{{\"plan\":\"pro\"}}}}")
}

/// Reads a line without its end. Labels of the line come before those of all keys. O(length).
///
/// # Errors
///
/// What is wrong with the line, without any part of it.
pub(super) fn read(number: u64, line: &[u8], of_all: &Labels) -> Result<Entry, String> {
    let Ok(text) = str::from_utf8(line) else { return Err("it is not in UTF-8".to_owned()) };
    if text.starts_with('#') {
        return Err("it begins with #: take it out if it is a comment, or write the value as JSON, such as \
                    {\"value\":\"#1\"}"
            .to_owned());
    }
    if !text.starts_with('{') {
        return Ok(Entry::new(number, &value(text)?, of_all));
    }
    // Its grammar first: what is said of a field may hide that there is no end to it.
    let checked = serde_json::from_str::<IgnoredAny>(text).map(drop);
    let key: Key =
        checked.and_then(|()| serde_json::from_str(text)).map_err(|error| {
            match error.classify() {
                Category::Data => wrong(&error),
                _ => format!(
                    "it begins with {{ but is not valid JSON: see column {}",
                    error.column()
                ),
            }
        })?;
    let labels = of_all.clone().into_iter().chain(key.labels).collect::<Labels>();
    if labels.len() > Label::COUNT_MAX {
        return Err(format!("it has more than {} labels, with those of --label", Label::COUNT_MAX));
    }
    if !labels.iter().all(|(name, value)| Label::new(name, value).is_some()) {
        return Err(format!(
            "the names and the values of its labels must have 1 to {} characters each, and the names no colon",
            Label::CHARS_MAX
        ));
    }
    Ok(Entry::new(number, &value(&key.value)?, &labels))
}

fn value(text: &str) -> Result<Value, String> {
    let wrong = || format!("its value must have 1 to {} characters", Value::CHARS_MAX);
    Value::new(text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::batch::Batch;
    use super::*;

    fn of_all() -> Labels {
        labels(&[Label::parse("plan:pro").unwrap(), Label::parse("at:eu").unwrap()]).unwrap()
    }

    fn told(line: &[u8]) -> String {
        read(1, line, &of_all()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_line_is_a_value_or_json() {
        for (line, key) in [
            ("sk-1", r#"{"value":"sk-1","labels":{"at":"eu","plan":"pro"}}"#),
            (" a: \"b\" ", r#"{"value":" a: \"b\" ","labels":{"at":"eu","plan":"pro"}}"#),
            ("[1]", r#"{"value":"[1]","labels":{"at":"eu","plan":"pro"}}"#),
            (
                r#"{"value":"{\n","labels":{"plan":"free","x":"y"}}"#,
                r#"{"value":"{\n","labels":{"at":"eu","plan":"free","x":"y"}}"#,
            ),
        ] {
            let mut batch = Batch::default();
            assert!(batch.push(read(1, line.as_bytes(), &of_all()).unwrap()).is_ok());
            let body = batch.body().unwrap().to_vec();
            assert_eq!(String::from_utf8(body).unwrap(), format!(r#"{{"keys":[{key}]}}"#));
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_value() {
        let long = "s3cret".repeat(700);
        let labels = (0..7).map(|n| format!("\"s3cret{n}\":\"x\"")).collect::<Vec<_>>().join(",");
        let many = format!(r#"{{"value":"s3cret","labels":{{{labels}}}}}"#);
        for (line, says) in [
            (&b"s3cret\xff"[..], "UTF-8"),
            (long.as_bytes(), "1 to 4096 characters"),
            (br#"{"value":""}"#, "1 to 4096 characters"),
            (b"# s3cret", "begins with #"),
            (br#"{"value":"s3cret""#, "not valid JSON: see column 17"),
            (br"{s3cret}", "not valid JSON: see column 2"),
            (br#"{"value":"s3cret"} s3cret"#, "not valid JSON: see column 20"),
            (br#"{"s3cret":"s3cret"}"#, "may be value and labels only; a key looks like {"),
            (br#"{"labels":{}}"#, "it has no value; a key looks like {"),
            (br#"{"value":12}"#, "its value must be a text;"),
            (br#"{"value":"s3cret","labels":"s3cret"}"#, "its labels must be an object;"),
            (br#"{"value":"s3cret","labels":null}"#, "its labels must be an object;"),
            (
                br#"{"value":"s3cret","labels":{"s3cret":1}}"#,
                "the values of its labels must be texts;",
            ),
            (br#"{"value":"s3cret","labels":{"a":"1","a":"2"}}"#, "two labels of the same name;"),
            (br#"{"value":"s3cret","value":"s3cret"}"#, "it has a field twice;"),
            (br#"{"value":"s3cret","labels":{"s3cret:":"x"}}"#, "no colon"),
            (br#"{"value":"s3cret","labels":{"s3cret":""}}"#, "1 to 63 characters"),
            (many.as_bytes(), "more than 8 labels"),
        ] {
            let told = told(line);
            assert!(told.contains(says) && !told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn labels_for_all_keys_are_such_as_a_key_can_have() {
        let label = |n: usize| Label::new(&format!("n{n}"), "x").unwrap();
        assert_eq!(labels(&(0..8).map(label).collect::<Vec<_>>()).unwrap().len(), 8);
        let told = |of: &[Label]| labels(of).unwrap_err();
        assert!(told(&(0..9).map(label).collect::<Vec<_>>()).contains("at most 8"));
        assert!(told(&[label(1), label(2), label(1)]).contains("names n1 twice"));
    }
}
