//! JSON bodies: the oracle looks at pairs of names and values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::fuzz;
use crate::mutate::mutate;
use crate::server::Server;

/// An object as it is written: a name may occur twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        object.deserialize_map(All)
    }
}

/// The value of the body's only field, if the body is an object with exactly one.
fn only(body: &[u8], name: &str) -> Result<Option<Value>, u16> {
    if serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Err(400);
    }
    let Ok(Pairs(mut pairs)) = serde_json::from_slice(body) else { return Err(422) };
    match &pairs[..] {
        [] => Ok(None),
        [(only, _)] if only == name => Ok(pairs.pop().map(|(_, value)| value)),
        _ => Err(422),
    }
}

#[test]
fn a_creation_is_done_or_refused_as_its_body_says() {
    const CORPUS: [&str; 9] = [
        r#"{"count":3}"#,
        "{}",
        r#"{"count":100000}"#,
        r#"{"count":1.0}"#,
        r#" {"count" : 1e2} "#,
        r#"{"count":-1}"#,
        "[3]",
        r#"{"count":null}"#,
        r#"{"c\u006funt":5}"#,
    ];
    const WORDS: [&str; 20] = [
        "0",
        "1",
        "9",
        "-",
        ".",
        "e",
        "E+",
        "null",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"count\":2",
        "\\u0000",
        "\u{feff}",
        "\u{c}",
        "1e999",
    ];
    // The pool is full: a valid creation is refused for that, and one that is larger than the pool for ever.
    let mut server = Server::start(1);
    server.lease();
    let mut seen = std::collections::HashMap::new();
    fuzz(
        15,
        |random| mutate(random, &CORPUS, &WORDS),
        |body| {
            let expected = match only(body, "count") {
                _ if body.is_empty() => 503,
                Ok(None) => 503,
                Ok(Some(Value::Number(count))) => {
                    let count = count.as_f64().unwrap();
                    #[expect(clippy::float_cmp, reason = "whole numbers")]
                    let is_one = count == 1.0;
                    if is_one { 503 } else { 422 }
                }
                Ok(Some(_)) => 422,
                Err(status) => status,
            };
            assert_eq!(server.ask("POST", "/keys", "", body).status, expected);
            *seen.entry(expected).or_insert(0) += 1;
        },
    );
    assert!(seen.len() == 3 && seen.values().all(|times| *times > 50), "{seen:?}");
}

#[test]
fn a_batch_names_the_missing_keys() {
    const CORPUS: [&str; 5] = [
        r#"{"keyIds":["936da01f-9abd-4d9d-80c7-02af85c822a8","x"]}"#,
        r#"{"keyIds":[]}"#,
        r#"{"keyIds":["\u0001\"\\/","é",""]}"#,
        r#"{"keyIds":["a","a"],"more":1}"#,
        r#"{"keyIds":[1]}"#,
    ];
    const WORDS: [&str; 14] = [
        "\"",
        ",",
        "[",
        "]",
        "\"keyIds\":[]",
        "\\ud800",
        "\\ud83d\\udd11",
        "null",
        "\\",
        "\u{1f511}",
        "\0",
        "{",
        "}",
        " ",
    ];
    let mut server = Server::start(1);
    let mut seen = std::collections::HashMap::new();
    fuzz(
        15,
        |random| mutate(random, &CORPUS, &WORDS),
        |body| {
            let names = |value: Option<Value>| match value {
                Some(Value::Array(names)) if names.iter().all(Value::is_string) => Ok(names),
                _ => Err(422),
            };
            let expected = only(body, "keyIds").and_then(names);
            let answer = server.ask("PUT", "/keepalive", "", body);
            match &expected {
                Ok(names) => {
                    assert_eq!(answer.status, 200);
                    let problem: Value = serde_json::from_str(&answer.body).unwrap();
                    assert_eq!(problem["missing"], Value::Array(names.clone()));
                }
                Err(_) if body.is_empty() => assert_eq!(answer.status, 400),
                Err(status) => assert_eq!(answer.status, *status),
            }
            *seen.entry(answer.status).or_insert(0) += 1;
        },
    );
    assert!(seen.len() == 3 && seen.values().all(|times| *times > 50), "{seen:?}");
}
