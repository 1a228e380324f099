//! What paths, fields and bodies look like, for the description of the API.
//!
//! Answers about keys are written byte by byte, in [`super::wire`]; a test reads those as these.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::batches::Keys;

/// The path of a key.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what handlers take")]
#[into_params(parameter_in = Path)]
pub(super) struct KeyPath {
    /// The key
    #[param(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    id: String,
}

/// For which lease a request is meant.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what handlers take")]
#[into_params(parameter_in = Header)]
pub(super) struct IfMatchHeader {
    /// The lease that this is meant for: the `ETag` that came with it
    #[param(
        rename = "If-Match",
        nullable = false,
        format = "entity-tags",
        pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#,
        example = "\"1\""
    )]
    if_match: Option<String>,
}

/// Nothing: the status says it all.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(super) struct Empty {}

/// One key.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Key {
    #[schema(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    key_id: String,
}

/// One key, or a list if a number was asked for.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Created {
    /// Without `count`.
    One(Key),
    /// With `count`.
    Several(Keys),
}

/// A leased key of a list.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Lease {
    #[schema(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    key_id: String,
    /// The lease, for `If-Match`.
    #[schema(example = "\"1\"", pattern = r#"^"[0-9]+"$"#)]
    etag: String,
}

/// Leased keys.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Leases {
    #[schema(min_items = 1)]
    keys: Vec<Lease>,
}

/// One key, or a list if a number was asked for.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Leased {
    /// Without `count`.
    One(Key),
    /// With `count`.
    Several(Leases),
}

/// What is known of a key.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Info {
    /// Whether it is leased or cooling.
    is_blocked: bool,
    /// Since when it is blocked; `null` while it is free. A renewal moves it.
    #[schema(required, format = DateTime, example = "2026-11-22T18:19:31.246Z")]
    blocked_at: Option<String>,
    #[schema(format = DateTime, example = "2026-11-22T18:19:02.610Z")]
    created_at: String,
}

/// Which keys were not there.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Missing {
    /// As they were written in the request.
    #[schema(example = json!([]))]
    missing: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::http::wire;
    use crate::key::{self, KeyId, KeyInfo, State};
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
        let lease = key::Lease { id, generation: 7, since, until };
        is_whole::<Empty>(wire::empty);
        is_whole::<Key>(|body| wire::key_id(body, &id));
        is_whole::<Created>(|body| wire::key_id(body, &id));
        is_whole::<Leased>(|body| wire::key_id(body, &id));
        is_whole::<Lease>(|body| wire::lease(body, &lease));
        for state in [State::Free, State::Leased(lease)] {
            let info = KeyInfo { created_at: since, life_ends: until, generation: 7, state };
            is_whole::<Info>(|body| wire::info(body, &store, &info));
        }
    }
}
