//! Keys with values, labels and holders over HTTP, on both paths to the handlers.

mod imports;
mod tokens;

use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use token_orchestrator::store::StoreExt;

use crate::api::{assert_json, assert_problem};
use crate::client::{Answer, Client, Server, until};
use crate::paths::{SLOW, bytes};
use crate::pools::put;

/// What may be nowhere but in the answer to a lease.
const SECRET: &str = "sk-never-to-be-shown";
const PLAN: &str = "label=plan:pro";

async fn import(client: &mut Client, pool: &str, keys: &Value) -> Answer {
    let body = json!({ "keys": keys }).to_string();
    client.send("POST", &format!("{pool}/keys"), &body).await
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 201, "{answer:?}");
    let ids = answer.json()["keyIds"].as_array().unwrap().clone();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// The server, and a pool of its own.
async fn with_own() -> Server {
    let server = Server::default().await;
    put(&server, "own", "").await;
    server
}

/// What a client does with a key of its own in one pool, on one path. The texts of the answers.
async fn cycle(pool: &str, path: &str) -> Vec<String> {
    let server = with_own().await;
    let mut client = server.connect().await;
    let keys = json!([{"value": "\"\\\n\u{1}é🔑\u{2028}</script>", "labels": {"plan": "pro"}}]);
    let id = ids(&import(&mut client, pool, &keys).await).remove(0);
    let (mut answers, mut statuses) = (Vec::new(), Vec::new());
    for (method, target, fields) in [
        ("GET", "/keys?label=plan:pro&holder=worker-7", ""),
        ("GET", "/keys?label=plan:pro", ""),
        ("GET", "/keys/ID", ""),
        ("DELETE", "/leases?holder=worker-7", ""),
        ("DELETE", "/leases?holder=worker-7", ""),
        ("GET", "/keys/ID", ""),
        // A retry of the same, and what is not the same.
        ("POST", "/leases?label=plan:pro&holder=a&wait=1s", "Idempotency-Key: a\r\n"),
        ("POST", "/leases?wait=1s&holder=a&label=plan:pro", "Idempotency-Key: a\r\n"),
        ("POST", "/leases?wait=1s&holder=%61&label=plan%3Apro", "Idempotency-Key: a\r\n"),
        ("POST", "/leases?label=plan:free&holder=a&wait=1s", "Idempotency-Key: a\r\n"),
        ("POST", "/leases?label=plan:pro&holder=b&wait=1s", "Idempotency-Key: a\r\n"),
        ("POST", "/leases?label=plan:pro&wait=1s", "Idempotency-Key: a\r\n"),
        ("POST", "/leases?holder=a&wait=1s", "Idempotency-Key: a\r\n"),
        ("PUT", "/keys/ID", ""),
        ("GET", "/keys?label=plan:free", ""),
        ("GET", "/keys?label=plan%3Apro&holder=%3F%2B%22", ""),
        ("GET", "/keys/ID", ""),
        ("PUT", "/keys/ID?cooldown=5s", ""),
        ("GET", "/keys/ID", ""),
        ("GET", "/keys?label=plan:pro", ""),
        // What is malformed.
        ("GET", "/keys?label=plan", ""),
        ("GET", "/keys?label=", ""),
        ("GET", "/keys?label=:pro", ""),
        ("GET", "/keys?label=plan:pro&label=plan:pro", ""),
        ("GET", "/keys?holder=", ""),
        ("GET", "/keys?holder=a%20b", ""),
        ("GET", "/keys?holder=a+b", ""),
        ("GET", "/keys?holder=%C3%A9", ""),
        ("GET", "/keys?labels=plan:pro", ""),
        ("GET", "/keys?lable=plan:pro", ""),
        ("POST", "/leases?holder", ""),
        ("DELETE", "/leases", ""),
        ("DELETE", "/leases?holder=", ""),
        ("DELETE", "/leases?holder=a%0Ab", ""),
        ("DELETE", "/leases?label=plan:pro", ""),
    ] {
        let target = format!("{pool}{}", target.replace("ID", &id));
        let answer = client.ask(method, &target, &format!("{fields}{path}")).await;
        if answer.status >= 400 && answer.body != "{}" {
            let kind =
                if answer.status == 422 { "idempotency-key-reused" } else { "invalid-parameter" };
            assert_problem(&answer, answer.status, kind);
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {target}");
        statuses.push(answer.status);
        answers.push(bytes(&answer).replace(pool, "").replace(&id, "ID"));
    }
    let mut expected = vec![
        200, 404, 200, 200, 200, 200, 201, 201, 201, 422, 422, 422, 422, 200, 404, 200, 200, 200,
    ];
    expected.extend([200, 404]);
    expected.extend([400; 15]);
    assert_eq!(statuses, expected);
    let value = r#"{"keyId":"ID","value":"\"\\\n\u0001é🔑"#.to_owned() + "\u{2028}</script>\"}";
    for leased in [0, 6, 7, 8, 15] {
        assert!(answers[leased].ends_with(&format!("\r\n\r\n{value}")), "{}", answers[leased]);
    }
    let holder = |answer: &String| {
        let line = answer.lines().find_map(|line| line.strip_prefix("lease-holder: "));
        line.map(str::to_owned)
    };
    assert_eq!(holder(&answers[2]), Some("worker-7".to_owned()));
    assert_eq!(holder(&answers[16]), Some("?+\"".to_owned()));
    assert_eq!([5, 18].map(|free| holder(&answers[free])), [None, None]);
    assert_eq!([3, 4].map(|taken| answers[taken].ends_with("{\"released\":1}")), [true, false]);
    assert!(answers[29].contains("did you mean label?"), "{}", answers[29]);
    answers
}

#[tokio::test]
async fn own_keys_have_the_same_api_in_each_pool_on_both_paths() {
    let default = cycle("", "").await;
    for (pool, path) in [("", SLOW), ("/pools/own", ""), ("/pools/own", SLOW)] {
        assert_eq!(cycle(pool, path).await, default, "{pool} {path}");
    }
}

#[tokio::test]
async fn each_value_is_given_as_it_came() {
    let server = with_own().await;
    let mut client = server.connect().await;
    let mut values: Vec<String> =
        ["sk-1", " ", "\0", "\"", "\\", "\\u0041", "{}", "e\u{301}", "\u{feff}"]
            .map(str::to_owned)
            .to_vec();
    values.extend(['x', 'é', '🔑', '\u{7f}', '"', '\u{1}'].map(|c| c.to_string().repeat(4096)));
    values.push((1..0x250).map(|code| char::from_u32(code).unwrap()).collect());
    let keys: Vec<_> = values.iter().map(|value| json!({ "value": value })).collect();
    for (pool, path) in [("", ""), ("/pools/own", SLOW)] {
        let ids = ids(&import(&mut client, pool, &json!(keys)).await);
        // However it is written, it is the same value.
        let escaped = r#"{"keys":[{"value":"\u0073\u006b-1"}]}"#;
        let again = client.send("POST", &format!("{pool}/keys"), escaped).await;
        assert_eq!(
            (again.json()["keyIds"][0].as_str(), again.header("keys-created")),
            (Some(&*ids[0]), Some("0"))
        );
        let check = |leased: &Value| {
            let place = ids.iter().position(|id| leased["keyId"] == **id).unwrap();
            assert_eq!(leased["value"], *values[place]);
            place
        };
        let mut seen = Vec::new();
        for _ in 0..4 {
            let leased = client.ask("GET", &format!("{pool}/keys"), path).await;
            assert_eq!((leased.status, leased.header("cache-control")), (200, Some("no-store")));
            seen.push(check(&leased.json()));
        }
        let many = client.ask("POST", &format!("{pool}/leases?count=100"), path).await;
        assert_eq!((many.status, many.header("cache-control")), (201, Some("no-store")));
        for leased in many.json()["keys"].as_array().unwrap() {
            assert!(leased["etag"].is_string());
            seen.push(check(leased));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..values.len()).collect::<Vec<_>>());
        // A generated key has none, among others as well.
        client.send("POST", &format!("{pool}/keys"), "").await;
        let leased = client.ask("GET", &format!("{pool}/keys"), path).await;
        assert_eq!(leased.json().as_object().unwrap().len(), 1, "{leased:?}");
    }
    // By HTTP/2 and after a wait, too.
    let ids = ids(&import(&mut client, "", &json!([{"value": "later"}])).await);
    assert_eq!(client.send("GET", "/keys", "").await.json()["value"], "later");
    let mut http2 = server.connect_http2().await;
    let request = hyper::Request::get("http://test/keys?wait=10s").body(Full::default()).unwrap();
    let (answer, ()) = tokio::join!(http2.send_request(request), async {
        until("it waits", async || server.store.stats().await.unwrap().waiting == 1).await;
        client.send("PUT", &format!("/keys/{}", ids[0]), "").await;
    });
    let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    let expected = json!({ "keyId": ids[0], "value": "later" }).to_string();
    assert_eq!(body, expected);
}

#[tokio::test]
async fn labels_and_holders_may_have_any_character_that_they_may_have() {
    let server = with_own().await;
    let mut client = server.connect().await;
    let (name, value) = ("größe & plan", "a:b=c%2B+/ü\n");
    let keys = json!([{"value": "sk", "labels": {name: value, "plan": "pro"}}, {"value": "other"}]);
    let label = "gr%C3%B6%C3%9Fe+%26%20plan:a:b%3Dc%252B%2B/%C3%BC%0A";
    let id = ids(&import(&mut client, "/pools/own", &keys).await).remove(0);
    for path in ["", SLOW] {
        let target = format!("/pools/own/keys?label={label}&holder=a/b?c=%25%2B%26");
        let leased = client.ask("GET", &target, path).await;
        assert_eq!(leased.json(), json!({ "keyId": id, "value": "sk" }));
        let shown = client.ask("GET", &format!("/pools/own/keys/{id}"), path).await;
        assert_eq!(shown.header("lease-holder"), Some("a/b?c=%+&"));
        let taken = client.ask("DELETE", "/pools/own/leases?holder=a/b?c=%25%2B%26", path).await;
        assert_json(&taken, 200, r#"{"released":1}"#);
    }
    // Whatever is written otherwise means the same on both paths.
    for query in [
        "label=plan:größe",
        "label=plan:p\"r|o",
        "label=plan:[pro];x",
        "label=plan:pro#x",
        "label=plan:<pro>",
        "label=plan:{pro}^`\\",
        "label=plan:pro&holder=a#b",
        "label=a:b=c",
        "label=plan:pro&",
        "&label=plan:pro",
        "label=plan:pro&&holder=a",
        "label=%70lan:pro&label=plan:pro",
        "label=%ff:pro",
        "label=plan:%",
        "holder=é",
        "holder=a=b&label=none:has",
        "holder=\"&label=none:has",
    ] {
        let mut both = Vec::new();
        for path in ["", SLOW] {
            let mut client = server.connect().await;
            let answer = client.ask("GET", &format!("/pools/own/keys?{query}"), path).await;
            server.send("DELETE", "/pools/own/leases?holder=a", "").await;
            server.send("PUT", &format!("/pools/own/keys/{id}"), "").await;
            both.push(bytes(&answer));
        }
        assert_eq!(both[0], both[1], "{query}");
    }
    let listed =
        client.send("GET", &format!("/pools/own/inventory?label={label}"), "").await.json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["keys"][0]["labels"], json!({ name: value, "plan": "pro" }));
}

#[tokio::test]
async fn the_list_shows_holders_and_labels_and_no_values() {
    let server = with_own().await;
    let mut client = server.connect().await;
    let keys: Value = (0..300)
        .map(|n| {
            let labels =
                if n % 3 == 0 { json!({ "plan": "pro", "n": n.to_string() }) } else { json!({}) };
            json!({ "value": format!("{SECRET}-{n}"), "labels": labels })
        })
        .collect();
    let ids = ids(&import(&mut client, "/pools/own", &keys).await);
    for _ in 0..10 {
        let leased = client.ask("GET", &format!("/pools/own/keys?{PLAN}&holder=a"), "").await;
        assert_eq!(leased.status, 200);
    }
    client.ask("GET", "/pools/own/keys", "").await;
    let mut all = async |query: &str| {
        let (mut keys, mut cursor) = (Vec::new(), String::new());
        loop {
            let target = format!("/pools/own/inventory?limit=70{query}{cursor}");
            let answer = client.ask("GET", &target, "").await;
            assert_eq!((answer.status, answer.body.contains(SECRET)), (200, false), "{answer:?}");
            let page = answer.json();
            keys.extend(page["keys"].as_array().unwrap().iter().cloned());
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return keys,
            }
        }
    };
    let everything = all("").await;
    assert_eq!(everything.len(), 300);
    for key in &everything {
        let n = ids.iter().position(|id| key["keyId"] == **id).unwrap();
        let labels =
            if n % 3 == 0 { json!({ "plan": "pro", "n": n.to_string() }) } else { json!({}) };
        assert_eq!(key["labels"], labels);
        assert!(key.get("value").is_none());
        if key["state"] == "free" {
            assert_eq!(key["holder"], Value::Null);
        }
    }
    assert_eq!(all("&label=plan:pro").await.len(), 100);
    assert_eq!(
        all("&label=plan:pro&state=blocked").await.len(),
        all("&label=plan:pro").await.len() - all("&label=plan:pro&state=free").await.len()
    );
    let held: Vec<_> =
        all("&state=blocked").await.iter().map(|key| key["holder"].clone()).collect();
    assert_eq!((held.len(), held.iter().filter(|holder| **holder == json!("a")).count()), (11, 10));
    assert_eq!(all("&label=n:3").await.len(), 1);
    assert!(all("&label=n:1").await.is_empty());
    for label in ["", "plan", ":pro", "plan:"] {
        let answer = client.ask("GET", &format!("/pools/own/inventory?label={label}"), "").await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
}
