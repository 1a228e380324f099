//! Imports, and why they are refused.

use serde_json::{Value, json};
use token_orchestrator::http::ServeOptions;
use token_orchestrator::pool::Settings;
use token_orchestrator::store::Options;

use super::{SECRET, ids, import, with_own};
use crate::api::{assert_json, assert_problem};
use crate::client::{Answer, Client, Server};
use crate::pools::put;

#[tokio::test]
async fn an_import_says_what_is_new() {
    let server = with_own().await;
    let mut client = server.connect().await;
    for pool in ["", "/pools/own"] {
        let keys = json!([{"value": "a"}, {"value": "b", "labels": {"plan": "pro"}}]);
        let first = import(&mut client, pool, &keys).await;
        let [a, b] = ids(&first).try_into().unwrap();
        assert_json(&first, 201, &json!({ "keyIds": [a, b] }).to_string());
        let fields = |answer: &Answer| {
            ["keys-created", "key-expires-at", "cache-control", "location"]
                .map(|name| answer.header(name).map(str::to_owned))
        };
        let end = Some("2024-03-01T00:04:59.500Z".to_owned());
        let no_store = Some("no-store".to_owned());
        assert_eq!(fields(&first), [Some("2".to_owned()), end.clone(), no_store.clone(), None]);
        let keys = json!([{"value": "b"}, {"value": "c"}, {"value": "a"}, {"value": "c"}]);
        let second = import(&mut client, pool, &keys).await;
        let known = ids(&second);
        assert_eq!([&known[0], &known[2], &known[3]], [&b, &a, &known[1]]);
        assert_eq!(fields(&second), [Some("1".to_owned()), end, no_store.clone(), None]);
        let third = import(&mut client, pool, &keys).await;
        assert_eq!(
            (ids(&third), fields(&third)),
            (known, [Some("0".to_owned()), None, no_store, None])
        );
        assert_eq!(client.send("GET", &format!("{pool}/stats"), "").await.json()["keys"], 3);
    }
}

#[tokio::test]
async fn a_wrong_import_is_refused_without_a_word_of_its_values() {
    let server = with_own().await;
    let mut client = server.connect().await;
    let key = |more: &str| format!(r#"{{"value":"{SECRET}"{more}}}"#);
    let one = |key: &str| format!(r#"{{"keys":[{key}]}}"#);
    let labels = |labels: &str| one(&key(&format!(r#","labels":{labels}"#)));
    let long = "x".repeat(64);
    let nine: Value =
        (0..9).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let invalid = [
        r#"{"keys":[]}"#.to_owned(),
        r#"{"keys":null}"#.to_owned(),
        r#"{"keys":{}}"#.to_owned(),
        format!(r#"{{"count":1,"keys":[{}]}}"#, key("")),
        format!(r#"{{"keys":[{0}],"keys":[{0}]}}"#, key("")),
        format!(r#"{{"keys":{}}}"#, key("")),
        format!(r#"{{"keys":"{SECRET}"}}"#),
        format!(r#"{{"{SECRET}":1}}"#),
        format!("[{}]", key("")),
        one(&format!(r#""{SECRET}""#)),
        one(&format!(r#"["{SECRET}"]"#)),
        one(&format!(r#"["{SECRET}",{{}}]"#)),
        one(&format!(r#"{{"value":["{SECRET}"]}}"#)),
        one(&format!(r#"{{"{SECRET}":"x"}}"#)),
        one(r#"{"value":null}"#),
        one(r#"{"value":7}"#),
        one(r#"{"labels":{}}"#),
        one("{}"),
        one(&key(r#","id":"x""#)),
        one(&key(&format!(r#","value":"{SECRET}""#))),
        labels("null"),
        labels(&format!(r#"["{SECRET}"]"#)),
        labels(r#"{"plan":1}"#),
        labels(r#"{"plan":null}"#),
        // Only one of them could be kept.
        labels(r#"{"plan":"pro","plan":"free"}"#),
        one(&vec![r#"{"value":"x"}"#; 100_001].join(",")),
    ];
    for body in &invalid {
        assert_refused(&mut client, body, 422, "invalid-body").await;
    }
    for (body, place, what) in [
        (
            one(&format!(r#"{},{{"value":""}}"#, key(""))),
            1,
            "its value must have 1 to 4096 characters",
        ),
        (one(&format!(r#"{{"value":"{SECRET}{}"}}"#, "x".repeat(4096))), 0, "its value must have"),
        (labels(&nine.to_string()), 0, "it may have 8 labels at most"),
        (labels(r#"{"":"pro"}"#), 0, "must have 1 to 63 characters each"),
        (labels(r#"{"plan":""}"#), 0, "must have 1 to 63 characters each"),
        (labels(r#"{"a:b":"pro"}"#), 0, "the names no colon"),
        (labels(&format!(r#"{{"plan":"{long}"}}"#)), 0, "must have 1 to 63 characters each"),
        (labels(&format!(r#"{{"{long}":"pro"}}"#)), 0, "must have 1 to 63 characters each"),
    ] {
        let answer = assert_refused(&mut client, &body, 422, "invalid-key").await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(&format!("keys[{place}] is invalid")) && detail.contains(what),
            "{detail}"
        );
    }
    for body in [
        format!(r#"{{"keys":[{}"#, key("")),
        format!(r#"{{"keys":[{}],}}"#, key("")),
        SECRET.to_owned(),
        format!(r#"{{"keys":[{{"value":"{SECRET}"#),
        format!("{{\"keys\":[{{\"value\":\"{SECRET}\n\"}}]}}"),
    ] {
        assert_refused(&mut client, &body, 400, "malformed-body").await;
    }
    // A half of a character is none.
    let answer = client.send("POST", "/keys", &one(r#"{"value":"\ud83d"}"#)).await;
    assert!([400, 422].contains(&answer.status), "{answer:?}");
    let large = format!(r#"{{"keys":[{}]}}"#, vec![key(""); 150_000].join(","));
    assert!(large.len() > 4 << 20);
    let answer = server.send("POST", "/keys", &large).await;
    assert_problem(&answer, 413, "body-too-large");
    assert_problem(
        &server.send("POST", "/pools/none/keys", &one(&key(""))).await,
        404,
        "no-such-pool",
    );
    assert_problem(
        &server.send("POST", "/keys?x=1", &one(&key(""))).await,
        400,
        "invalid-parameter",
    );
    for pool in ["", "/pools/own"] {
        let stats = server.send("GET", &format!("{pool}/stats"), "").await.json();
        assert_eq!((&stats["keys"], &stats["totals"]["created"]), (&json!(0), &json!(0)));
    }
    // What is at the limits is taken.
    let eight: Value = (0..8)
        .map(|n| (n.to_string().repeat(63), json!("é".repeat(63))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let keys = json!([{"value": "🔑".repeat(4096), "labels": eight}, {"value": "x", "labels": {}}]);
    assert_eq!(ids(&import(&mut client, "", &keys).await).len(), 2);
}

async fn assert_refused(client: &mut Client, body: &str, status: u16, kind: &str) -> Answer {
    let mut answer = None;
    for pool in ["", "/pools/own"] {
        let refused = client.send("POST", &format!("{pool}/keys"), body).await;
        let begin: String = body.chars().take(100).collect();
        assert_eq!(refused.status, status, "{begin} {refused:?}");
        assert_problem(&refused, status, kind);
        assert!(!refused.head.contains(SECRET) && !refused.body.contains(SECRET), "{refused:?}");
        answer = Some(refused);
    }
    answer.unwrap()
}

#[tokio::test]
async fn an_import_without_room_is_told_what_is_missing() {
    let settings = Settings { keys_max: 2000, ..Settings::default() };
    let options = Options { settings, value_bytes_max: 100, ..Options::default() };
    let server = Server::start(options, ServeOptions::default()).await;
    put(&server, "small", r#"{"maxKeys":3}"#).await;
    let mut client = server.connect().await;
    let values =
        |values: &[&str]| values.iter().map(|value| json!({ "value": value })).collect::<Value>();
    let full = import(&mut client, "/pools/small", &values(&["a", "b", "c", "d"])).await;
    assert_problem(&full, 422, "larger-than-pool");
    ids(&import(&mut client, "/pools/small", &values(&["a", "b", "c"])).await);
    let full = import(&mut client, "/pools/small", &values(&["a", "x"])).await;
    assert_problem(&full, 503, "pool-full");
    assert!(full.header("retry-after").is_some());
    // These are two, and will fit once others have gone.
    let full = import(&mut client, "/pools/small", &values(&["a", "x", "x", "x"])).await;
    assert_problem(&full, 503, "pool-full");
    let full = import(&mut client, "", &values(&[&"x".repeat(98)])).await;
    assert_problem(&full, 503, "values-full");
    assert!(full.header("retry-after").is_some());
    let labeled: Value =
        (0..1001).map(|n| json!({ "value": "y", "labels": { "n": n.to_string() } })).collect();
    // The first of them is kept.
    let answer = import(&mut client, "", &labeled).await;
    assert_eq!((answer.status, answer.header("keys-created")), (201, Some("1")));
    let labeled: Value = (0..97)
        .map(|n| {
            let labels: serde_json::Map<_, _> =
                (0..8).map(|name| (name.to_string(), json!(format!("{n}")))).collect();
            json!({ "value": char::from_u32(0x21 + n).unwrap().to_string(), "labels": labels })
        })
        .collect();
    let server = Server::default().await;
    let mut client = server.connect().await;
    ids(&import(&mut client, "", &labeled).await);
    let labeled: Value = (0..300)
        .map(|n| json!({ "value": format!("sk-{n}"), "labels": { "other": n.to_string() } }))
        .collect();
    let full = import(&mut client, "", &labeled).await;
    assert_problem(&full, 503, "too-many-labels");
    assert!(full.header("retry-after").is_some());
    assert_eq!(client.send("GET", "/stats", "").await.json()["keys"], 97);
    // So many never fit.
    let labeled: Value = (0..1001)
        .map(|n| json!({ "value": format!("sk-{n}"), "labels": { "n": n.to_string() } }))
        .collect();
    assert_problem(&import(&mut client, "", &labeled).await, 422, "invalid-key");
}
