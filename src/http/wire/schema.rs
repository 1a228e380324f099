//! The form of paths, fields and bodies, for the description of the API.
//!
//! Answers about keys are written byte by byte, in `json.rs`. A test reads them as these types.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The most keys that one request may create, lease, release or keep alive.
pub const COUNT_MAX: usize = 100_000;

/// The path of a key.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what handlers take")]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct KeyPath {
    /// The id of the key
    #[param(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    id: String,
}

/// The lease that a request is meant for.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what handlers take")]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct IfMatchHeader {
    /// The lease that the request is meant for: the `ETag` of its answer. If the key has another lease by now, nothing is done
    #[param(
        rename = "If-Match",
        nullable = false,
        format = "entity-tags",
        pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#,
        example = "\"1\""
    )]
    if_match: Option<String>,
}

/// What names a lease, so that a retry is known as one.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what handlers take")]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct IdempotencyKeyHeader {
    /// A name for this lease, such as a random UUID. A retry with the same name and parameters gets the same lease as long as it lasts
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = r"^[ -~]+$",
        example = "f3b5c6a1-4c0e-4a55-9d0b-0f6a3c1f9f10"
    )]
    idempotency_key: Option<String>,
}

/// An empty object.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(in crate::http) struct Empty {}

/// One key.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Key {
    #[schema(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    key_id: String,
}

/// Many keys.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Keys {
    #[schema(max_items = 100_000, example = json!(["936da01f-9abd-4d9d-80c7-02af85c822a8"]))]
    #[serde(deserialize_with = "few")]
    pub(in crate::http) key_ids: Vec<String>,
}

/// Reads a list and stops where it is too long, so that a refused list takes no memory.
fn few<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {COUNT_MAX} key ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == COUNT_MAX {
                    return Err(A::Error::custom("too many"));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    list.deserialize_seq(Few)
}

/// One key; or a list, if the request has a `count`.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Created {
    // No doc comments here: they would become descriptions beside a `$ref`, which code generators stumble over.
    One(Key),
    Several(Keys),
}

/// A leased key of a list.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Lease {
    #[schema(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    key_id: String,
    /// Names the lease, for `If-Match`.
    #[schema(example = "\"1\"", pattern = r#"^"[0-9]+"$"#)]
    etag: String,
    /// What the key stands for, if it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "sk-1")]
    value: Option<String>,
}

/// A leased key.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct LeasedKey {
    #[schema(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    key_id: String,
    /// What the key stands for, if it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "sk-1")]
    value: Option<String>,
}

/// Leased keys.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Leases {
    #[schema(min_items = 1)]
    keys: Vec<Lease>,
}

/// One key; or a list, if the request has a `count`.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Leased {
    One(LeasedKey),
    Several(Leases),
}

/// The state of a key.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Info {
    /// Whether the key is leased or cooling down.
    is_blocked: bool,
    /// Since when the key is blocked; `null` while it is free. A renewal moves it.
    #[schema(required, format = DateTime, example = "2026-11-22T18:19:31.246Z")]
    blocked_at: Option<String>,
    #[schema(format = DateTime, example = "2026-11-22T18:19:02.610Z")]
    created_at: String,
}

/// The keys that do not exist.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Missing {
    /// The ids, as they are in the request.
    #[schema(example = json!([]))]
    missing: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::http::wire::json;
    use crate::key::{self, KeyId, KeyInfo, State};
    use crate::pool::PoolId;
    use crate::store::{Memory, Options};
    use crate::time::{ManualClock, Timestamp};

    /// Bytes that are read as `T` and written again come out the same.
    fn is_whole<T: DeserializeOwned + Serialize>(write: impl FnOnce(&mut Vec<u8>)) {
        let mut body = Vec::new();
        write(&mut body);
        let read: T = serde_json::from_slice(&body).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), str::from_utf8(&body).unwrap());
    }

    #[test]
    fn what_is_written_is_what_is_described() {
        let store = Memory::new(Options::default(), ManualClock::default());
        let id: KeyId = "936da01f-9abd-4d9d-80c7-02af85c822a8".parse().unwrap();
        let (since, until) = (Timestamp::from_ms(1), Timestamp::from_ms(5));
        let lease = key::Lease { pool: PoolId::DEFAULT, id, generation: 7, since, until };
        is_whole::<Empty>(json::empty);
        is_whole::<Key>(|body| json::key_id(body, &id));
        is_whole::<Created>(|body| json::key_id(body, &id));
        is_whole::<Leased>(|body| json::key_id(body, &id));
        let plain = key::Leased::from(lease);
        let value = Some(key::Value::new("sk-\"\\\u{1}é").unwrap());
        let own = key::Leased { value, ..plain.clone() };
        for leased in [&plain, &own] {
            is_whole::<Leased>(|body| json::leased(body, leased));
            is_whole::<Lease>(|body| json::lease(body, leased));
        }
        for state in [State::Free, State::Leased(lease)] {
            let info =
                KeyInfo { created_at: since, life_ends: until, generation: 7, state, own: None };
            is_whole::<Info>(|body| json::info(body, &store, &info));
        }
    }
}
