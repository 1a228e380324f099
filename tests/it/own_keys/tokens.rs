//! Who may do what with keys, and how many leases a token may have.

use serde_json::json;
use token_orchestrator::http::TokenHash;
use token_orchestrator::key::State;
use token_orchestrator::store::{Store, StoreExt};

use super::SECRET;
use crate::access::{File, guarded};
use crate::api::assert_problem;
use crate::client::until;
use crate::paths::SLOW;

/// The line of a token that is the same as its name.
fn line(name: &str, role: &str, end: &str) -> String {
    format!("{name} {role} {} {end}\n", TokenHash::of(name.as_bytes()))
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer {name}\r\n")
}

#[tokio::test]
async fn only_an_admin_imports_and_takes_back() {
    let file = File::new("own-roles", &[]);
    let lines =
        [line("worker", "client", ""), line("admin", "admin", ""), line("metrics", "metrics", "")];
    file.write_lines(&lines.concat());
    let (server, _) = guarded(&file).await;
    let body = json!({"keys": [{"value": SECRET}]}).to_string();
    let mut client = server.connect().await;
    let mut send = async |method: &str, path: &str, token: &str, body: &str| {
        let fields = format!("Content-Length: {}\r\n{}", body.len(), bearer(token));
        client
            .write(&format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}"))
            .await;
        client.read(method).await
    };
    for (token, status) in [("worker", 403), ("metrics", 403), ("nobody", 401), ("admin", 201)] {
        let answer = send("POST", "/keys", token, &body).await;
        assert_eq!((answer.status, answer.body.contains(SECRET)), (status, false), "{token}");
    }
    // The holder is the token, unless the request says another one.
    let leased = send("GET", "/keys", "worker", "").await.json();
    assert_eq!(leased["value"], SECRET);
    let id = leased["keyId"].as_str().unwrap().to_owned();
    let shown = send("GET", &format!("/keys/{id}"), "admin", "").await;
    assert_eq!(shown.header("lease-holder"), Some("worker"));
    for (token, status) in [("worker", 403), ("metrics", 403), ("nobody", 401), ("admin", 200)] {
        for path in ["/leases", "/pools/default/leases"] {
            let answer = send("DELETE", &format!("{path}?holder=worker"), token, "").await;
            assert_eq!(answer.status, status, "{token} {path}");
        }
    }
    assert!(server.store.get(&id.parse().unwrap()).await.unwrap().state == State::Free);
    let none = send("DELETE", "/pools/none/leases?holder=a", "admin", "").await;
    assert_problem(&none, 404, "no-such-pool");
}

/// A quota is for all pools and both paths, whatever the holder is called, and a reload keeps what is held.
#[tokio::test]
async fn a_token_has_no_more_leases_than_it_may() {
    let file = File::new("own-quota", &[]);
    let write = |end: &str| {
        file.write_lines(&[line("worker", "client", end), line("admin", "admin", "")].concat());
    };
    write("max-held=3");
    let (server, access) = guarded(&file).await;
    let (worker, admin) = (bearer("worker"), bearer("admin"));
    let mut client = server.connect().await;
    let put = client.ask("PUT", "/pools/own", &admin).await;
    assert_eq!(put.status, 201);
    let mut ask =
        async |method: &str, path: &str, fields: &str| client.ask(method, path, fields).await;
    for pool in ["", "/pools/own"] {
        for _ in 0..10 {
            assert_eq!(ask("POST", &format!("{pool}/keys"), &admin).await.status, 201);
        }
    }
    let leased = ask("GET", "/keys", &worker).await.json();
    let id = leased["keyId"].as_str().unwrap().to_owned();
    // Of many, it gets as many as are left.
    let many = ask("GET", "/pools/own/keys?count=5&holder=other", &worker).await;
    assert_eq!(many.json()["keys"].as_array().unwrap().len(), 2);
    for pool in ["", "/pools/own"] {
        for path in ["", SLOW] {
            for (method, target) in [
                ("GET", "/keys"),
                ("GET", "/keys?wait=30s"),
                ("GET", "/keys?holder=x"),
                ("GET", "/keys?holder=%78"),
                ("GET", "/keys?count=2"),
                ("POST", "/leases"),
                ("POST", "/leases?count=2&wait=30s"),
            ] {
                let answer =
                    ask(method, &format!("{pool}{target}"), &format!("{worker}{path}")).await;
                assert_problem(&answer, 429, "too-many-held");
                assert_eq!(answer.header("retry-after"), Some("1"), "{pool}{target}");
            }
        }
    }
    // What was leased before is shown to a retry all the same.
    assert_eq!(ask("PUT", &format!("/keys/{id}"), &worker).await.status, 200);
    let again = format!("{worker}Idempotency-Key: a\r\n");
    let mut retries = Vec::new();
    for path in ["", SLOW, ""] {
        let leased = ask("POST", "/leases", &format!("{again}{path}")).await;
        assert_eq!(leased.status, 201);
        retries.push(leased.json());
    }
    assert!(retries[0] == retries[1] && retries[1] == retries[2]);
    assert_eq!(ask("GET", "/keys", &worker).await.status, 429);
    let id = retries[0]["keyId"].as_str().unwrap().to_owned();
    // It is for this token only.
    assert_eq!(ask("GET", "/keys", &admin).await.status, 200);
    assert_eq!(ask("PUT", &format!("/keys/{id}"), &worker).await.status, 200);
    assert_eq!(ask("GET", "/keys", &worker).await.status, 200);
    assert_eq!(ask("GET", "/keys", &worker).await.status, 429);
    for (end, statuses) in [
        ("max-held=4", [200, 429]),
        ("max-held=1", [429, 429]),
        ("", [200, 200]),
        // Those of the time without a quota count against none.
        ("max-held=5", [200, 429]),
    ] {
        write(end);
        access.reload().unwrap();
        for status in statuses {
            assert_eq!(ask("GET", "/keys", &worker).await.status, status, "{end}");
        }
    }
    server.clock.advance_ms(60_000);
    let own = server.store.pool(server.store.find_pool("own").unwrap());
    until("the leases end", async || own.stats().await.unwrap().leased == 0).await;
    assert_eq!(
        ask("GET", "/keys?count=9", &worker).await.json()["keys"].as_array().unwrap().len(),
        5
    );
}
