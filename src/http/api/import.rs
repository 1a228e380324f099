//! Importing keys that exist elsewhere, each with its value.

use std::collections::HashSet;
use std::fmt;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::Schema;
use zeroize::Zeroizing;

use super::room::refusal;
use super::state::{Api, answer};
use crate::http::audit::Subject;
use crate::http::wire::{AnswerPermit, COUNT_MAX, Fields, Problem, list, quoted};
use crate::key::{Label, Value};
use crate::pool::PoolId;
use crate::store::{OwnKey, Store};

/// The name of the field that says how many keys are new.
const KEYS_CREATED: HeaderName = HeaderName::from_static("keys-created");

/// A key to import.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// What a lease of the key gives. It is a secret, and is shown nowhere else.
    #[schema(value_type = String, min_length = 1, max_length = 4096, example = "sk-1")]
    value: Secret,
    /// Up to 8 labels to choose the key by, each with a name and a value.
    #[serde(default, deserialize_with = "distinct")]
    #[schema(schema_with = labels_schema)]
    labels: Vec<(String, String)>,
}

/// The form of labels.
fn labels_schema() -> Schema {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let schema = json!({
        "type": "object",
        "description": "Up to 8 labels to choose the key by, each with a name and a value.",
        "propertyNames": text("^[^:]{1,63}$"),
        "additionalProperties": text("^(.|\\n){1,63}$"),
        "maxProperties": 8,
        "example": {"plan": "pro"},
    });
    serde_json::from_value(schema).expect("a schema")
}

/// Reads labels, of which none may have the name of another one: only one of them could be kept.
fn distinct<'de, D: Deserializer<'de>>(object: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Distinct;
    impl<'de> Visitor<'de> for Distinct {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts with different names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut labels: Vec<(String, String)> = Vec::new();
            while let Some((name, value)) = items.next_entry()? {
                if labels.iter().any(|(other, _)| *other == name) {
                    return Err(A::Error::custom("a label twice"));
                }
                // One too many is enough to refuse them.
                if labels.len() <= Label::COUNT_MAX {
                    labels.push((name, value));
                }
            }
            Ok(labels)
        }
    }
    object.deserialize_map(Distinct)
}

/// A text that is zeroed when it is dropped.
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text).map(|text| Self(Zeroizing::new(text)))
    }
}

/// A key that is written as an object. Serde would also read an array, by the order of the fields.
struct Object(NewKey);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(key: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object, A::Error> {
                NewKey::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        key.deserialize_map(Fields)
    }
}

/// Reads a list and stops where it is too long, so that a refused list takes no memory.
pub(super) fn few<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<NewKey>>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<NewKey>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {COUNT_MAX} keys")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<NewKey>, A::Error> {
            let mut list = Vec::new();
            while let Some(Object(item)) = items.next_element()? {
                if list.len() == COUNT_MAX {
                    return Err(A::Error::custom("too many"));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    list.deserialize_seq(Few).map(Some)
}

/// Imports keys, all or none if there is no room for all. The permit is enough for the keys and their ids.
pub(super) async fn import<S: Store>(
    api: &Api<S>,
    pool: PoolId,
    keys: Vec<NewKey>,
    permit: AnswerPermit,
) -> Response {
    let own: Result<Vec<_>, Problem> =
        keys.iter().enumerate().map(|(n, key)| own_key(n, key)).collect();
    drop(keys);
    let own = match own {
        Ok(own) => own,
        Err(problem) => return problem.response(),
    };
    let mut values = HashSet::new();
    // A value that comes twice keeps the labels of its first one.
    let different = own.iter().filter(|key| values.insert(key.value.reveal()));
    let labels: HashSet<_> = different.flat_map(|key| &key.labels).collect();
    if labels.len() > Label::DIFFERENT_MAX {
        let max = Label::DIFFERENT_MAX;
        let detail = format!(
            "Nothing was imported, because the keys have more than {max} different labels together, and so many may be in a \
             pool. Import fewer at a time, into several pools."
        );
        return Problem::InvalidKey { detail }.response();
    }
    drop((values, labels));
    let imported = match api.store.import(pool, &own).await {
        Ok(imported) => imported,
        // A value that comes twice takes room once.
        Err(error) => {
            let different: HashSet<_> = own.iter().map(|key| key.value.reveal()).collect();
            return refusal(api, pool, different.len(), error).await.into_response();
        }
    };
    let body = permit.into_body(list("keyIds", &imported.ids, quoted).await);
    let is_any_new = imported.created > 0;
    let fields = if is_any_new { Fields::of_life(imported.life_ends) } else { Fields::default() };
    let mut response = answer(api, StatusCode::CREATED, &fields, body);
    response.headers_mut().insert(KEYS_CREATED, HeaderValue::from(imported.created));
    api.note(&mut response, Subject::Many(imported.ids.len()));
    response
}

/// The key number `n`, from 0 on. What is said of a malformed one has nothing of its value.
fn own_key(n: usize, key: &NewKey) -> Result<OwnKey, Problem> {
    let invalid = |what: String| {
        let detail = format!("Nothing was imported, because keys[{n}] is invalid: {what}.");
        Problem::InvalidKey { detail }
    };
    let Some(value) = Value::new(&key.value.0) else {
        return Err(invalid(format!("its value must have 1 to {} characters", Value::CHARS_MAX)));
    };
    if key.labels.len() > Label::COUNT_MAX {
        return Err(invalid(format!("it may have {} labels at most", Label::COUNT_MAX)));
    }
    let labels = key.labels.iter().map(|(name, value)| Label::new(name, value));
    let labels = labels.collect::<Option<_>>().ok_or_else(|| {
        invalid(format!(
            "the names and the values of its labels must have 1 to {} characters each, and the names no colon",
            Label::CHARS_MAX
        ))
    })?;
    Ok(OwnKey { value, labels })
}
