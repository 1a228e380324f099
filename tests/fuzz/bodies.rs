//! JSON bodies: the oracle looks at pairs of names and values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
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

/// What the fields of an object are, if it is one with each of these names at most once, and no other.
fn fields<'a, const N: usize>(body: &'a Value, names: [&str; N]) -> Option<[Option<&'a Value>; N]> {
    let object = body.as_object()?;
    let is_known = object.keys().all(|name| names.contains(&&**name));
    is_known.then(|| names.map(|name| object.get(name)))
}

/// Whether an object, anywhere in the body, has a name twice. `Value` would keep the last one.
fn has_name_twice(body: &[u8]) -> bool {
    struct Once;
    impl<'de> Deserialize<'de> for Once {
        fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
            struct Any;
            impl<'de> Visitor<'de> for Any {
                type Value = Once;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a value whose objects have each name once")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
                    let mut names = std::collections::HashSet::new();
                    while let Some((name, Once)) = map.next_entry::<String, Once>()? {
                        if !names.insert(name) {
                            return Err(A::Error::custom("twice"));
                        }
                    }
                    Ok(Once)
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
                    while let Some(Once) = list.next_element()? {}
                    Ok(Once)
                }
                fn visit_str<E>(self, _: &str) -> Result<Once, E> {
                    Ok(Once)
                }
                fn visit_f64<E>(self, _: f64) -> Result<Once, E> {
                    Ok(Once)
                }
                fn visit_u64<E>(self, _: u64) -> Result<Once, E> {
                    Ok(Once)
                }
                fn visit_i64<E>(self, _: i64) -> Result<Once, E> {
                    Ok(Once)
                }
                fn visit_bool<E>(self, _: bool) -> Result<Once, E> {
                    Ok(Once)
                }
                fn visit_unit<E>(self) -> Result<Once, E> {
                    Ok(Once)
                }
            }
            value.deserialize_any(Any)
        }
    }
    serde_json::from_slice::<Once>(body).is_err()
}

/// Whether an entry of an import has what it needs.
fn is_key(entry: &Value) -> Option<bool> {
    let [value, labels] = fields(entry, ["value", "labels"])?;
    let chars = |text: &str, max: usize| (1..=max).contains(&text.chars().count());
    let value = chars(value?.as_str()?, 4096);
    let Some(labels) = labels else { return Some(value) };
    let labels = labels.as_object()?;
    let mut are_valid = labels.len() <= 8;
    for (name, text) in labels {
        are_valid &= chars(name, 63) && !name.contains(':') && chars(text.as_str()?, 63);
    }
    Some(value && are_valid)
}

/// The status of an import into a pool with room.
fn import_status(body: &[u8]) -> u16 {
    if serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return 400;
    }
    // What is JSON by its grammar alone, such as half a surrogate pair, is no text.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return 422 };
    let is_import = |value: &Value| {
        let [keys] = fields(value, ["keys"])?;
        let keys = keys?.as_array()?;
        let are_keys = keys.iter().map(is_key).collect::<Option<Vec<_>>>()?;
        Some(!keys.is_empty() && are_keys.iter().all(|is_key| *is_key))
    };
    if !has_name_twice(body) && is_import(&value) == Some(true) { 201 } else { 422 }
}

#[test]
fn an_import_is_done_or_refused_as_its_body_says() {
    const CORPUS: [&str; 9] = [
        r#"{"keys":[{"value":"secret-1"}]}"#,
        r#"{"keys":[{"value":"secret-1","labels":{"plan":"pro"}},{"value":"secret-2"}]}"#,
        r#"{"keys":[{"labels":{},"value":"\u00e9\ud83d\udd11"}]}"#,
        r#"{"keys":[{"value":"","labels":{"a":"b"}}]}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[["secret-1",{}]]}"#,
        r#"{"keys":[{"value":"a","labels":{"a:b":"c"}}]}"#,
        r#"{"keys":[{"value":"a","labels":{"1":"","2":"x"}}]}"#,
        r#"{"k\u0065ys":[{"v\u0061lue":"secret-3","labels":{"a":"1","b":"2","c":"3","d":"4","e":"5","f":"6","g":"7","h":"8"}}]}"#,
    ];
    const WORDS: [&str; 20] = [
        "\"",
        ",",
        "[",
        "]",
        "{",
        "}",
        ":",
        "null",
        "1",
        "\"value\":\"a\"",
        "\"labels\":{}",
        "\"i\":\"9\",",
        ",\"count\":1",
        "{\"value\":\"b\"},",
        "\\ud800",
        "\\u0000",
        "\u{feff}",
        "\u{1f511}",
        "é",
        " ",
    ];
    let mut server = Server::start(1_000_000);
    let mut seen = std::collections::HashMap::new();
    fuzz(
        15,
        |random| mutate(random, &CORPUS, &WORDS),
        |body| {
            // No body, and `{}`, create a key without a value.
            let names = only(body, "count");
            if body.is_empty()
                || matches!(names, Ok(None))
                || matches!(names, Ok(Some(Value::Number(_))))
            {
                return;
            }
            let expected = import_status(body);
            let answer = server.ask("POST", "/keys", "", body);
            assert_eq!(answer.status, expected, "{}", String::from_utf8_lossy(body));
            assert!(expected == 201 || !answer.body.contains("secret-"), "{}", answer.body);
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
