//! Tokens that are for some pools only, on both paths to the handlers.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::json;
use token_orchestrator::http::TokenHash;
use token_orchestrator::store::StoreExt;

use crate::access::{File, guarded};
use crate::api::assert_problem;
use crate::cli::{binary, error_line, signal, start};
use crate::client::Answer;
use crate::events::Events;
use crate::paths::SLOW;

/// The line of a token that is the same as its name.
fn line(name: &str, role: &str, end: &str) -> String {
    format!("{name} {role} {} {end}\n", TokenHash::of(name.as_bytes()))
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer {name}\r\n")
}

fn file(test: &str, lines: &[String]) -> File {
    let file = File::new(test, &[]);
    file.write_lines(&lines.concat());
    file
}

fn assert_forbidden(answer: &Answer, detail: &str) {
    assert_problem(answer, 403, "forbidden-pool");
    let told = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(told.contains(detail), "{told}");
    assert_eq!(answer.header("www-authenticate"), None);
}

const OTHER: &str = "The token that was sent is not for the pool default.";
const NOT_SINGLE: &str = "not about a single pool, so it needs a token that is for all pools";
const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

#[tokio::test]
async fn a_token_allows_only_its_pools_on_both_paths() {
    let file = file(
        "pools",
        &[
            line("own", "admin", "default"),
            line("many", "admin", "openai,def*"),
            line("all", "admin", "*"),
            line("other", "admin", "openai,default-*"),
        ],
    );
    let (server, _) = guarded(&file).await;
    let (key, lease, life) =
        (format!("/keys/{ID}"), format!("/keys/{ID}/lease"), format!("/keepalive/{ID}"));
    for way in ["", SLOW] {
        // One connection for all tokens: what it remembers of one must not be for another.
        let mut client = server.connect().await;
        let mut ask = async |method: &str, path: &str, token: &str| {
            client.ask(method, path, &format!("{}{way}", bearer(token))).await
        };
        for (method, path, status) in [
            ("GET", "/keys", 404),
            ("GET", "/keys?count=2", 404),
            ("POST", "/leases", 404),
            ("PUT", "/keys", 400),
            ("GET", &key, 404),
            ("HEAD", &key, 404),
            ("PUT", &key, 404),
            ("DELETE", &key, 404),
            ("PUT", &lease, 404),
            ("PUT", &life, 404),
            ("PUT", "/keepalive", 400),
            ("GET", "/stats", 200),
        ] {
            for _ in 0..2 {
                for token in ["own", "many", "all"] {
                    let answer = ask(method, path, token).await;
                    assert_eq!(answer.status, status, "{method} {path} as {token}");
                }
                let answer = ask(method, path, "other").await;
                if method == "HEAD" {
                    assert_eq!(answer.status, 403, "{path}");
                } else {
                    assert_forbidden(&answer, OTHER);
                }
            }
        }
        for (method, path, status) in
            [("GET", "/metrics", 200), ("GET", "/nowhere", 404), ("PATCH", "/keys", 405)]
        {
            assert_eq!(ask(method, path, "all").await.status, status, "{method} {path}");
            for token in ["own", "many", "other"] {
                assert_forbidden(&ask(method, path, token).await, NOT_SINGLE);
            }
        }
        assert_forbidden(&ask("GET", "/dashboard/events", "own").await, NOT_SINGLE);
        for path in ["/healthz", "/readyz", "/dashboard", "/openapi.json", "/docs/"] {
            assert_eq!(ask("GET", path, "other").await.status, 200, "{path}");
        }
    }
}

/// What concerns the whole server is of other pools, too.
#[tokio::test]
async fn a_viewer_sees_its_pools_and_of_the_server_nothing() {
    let lines = [
        line("own", "metrics", "default,openai-*"),
        line("all", "metrics", "*"),
        line("admin", "admin", "*"),
    ];
    let file = file("pools-events", &lines);
    let (server, access) = guarded(&file).await;
    let mut client = server.connect().await;
    client.ask("PUT", "/pools/openai-eu", &bearer("admin")).await;
    client.ask("PUT", "/pools/other", &bearer("admin")).await;
    for (query, token, of_server) in [
        ("?pool=openai-eu", "own", false),
        ("?pool=default", "own", false),
        ("?pool=%64efault", "own", false),
        ("?pool=openai-eu", "all", true),
        ("?pool=default", "all", true),
        ("", "all", true),
    ] {
        let mut events = Events::asked(server.connect().await, query, &bearer(token)).await;
        events.next().await.unwrap();
        let history = events.next().await.unwrap().1;
        let sample = events.next().await.unwrap().1;
        assert!(sample["stats"]["keys"] == 0, "{query} as {token}: {sample}");
        for name in ["requests", "connections", "residentBytes", "sweepLagMs", "latencyUs"] {
            assert_eq!(sample.get(name).is_some(), of_server, "{query} as {token}: {sample}");
        }
        assert!(of_server || history == json!([]), "{history}");
    }
    for (query, detail) in [
        ("?pool=other", "not for the pool other"),
        ("?pool=openai", "not for the pool openai"),
        ("", NOT_SINGLE),
        ("?pool=Default", NOT_SINGLE),
        ("?pool=default&pool=default", NOT_SINGLE),
    ] {
        let path = format!("/dashboard/events{query}");
        let answer = client.ask("GET", &path, &bearer("own")).await;
        assert_problem(&answer, 403, "forbidden-pool");
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(told.contains(detail), "{query}: {told}");
    }
    // Whoever watches must ask again after a reload.
    let mut events = Events::asked(server.connect().await, "?pool=openai-eu", &bearer("own")).await;
    events.next().await.unwrap();
    access.reload().unwrap();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn the_role_comes_before_the_pools() {
    let lines = [line("client", "client", "openai"), line("metrics", "metrics", "default")];
    let (server, _) = guarded(&file("pool-roles", &lines)).await;
    let mut client = server.connect().await;
    for (method, path, token, kind) in [
        ("POST", "/keys", "client", "forbidden"),
        ("GET", "/keys", "client", "forbidden-pool"),
        ("GET", "/metrics", "client", "forbidden"),
        ("GET", "/keys", "metrics", "forbidden"),
        ("GET", "/metrics", "metrics", "forbidden-pool"),
    ] {
        assert_problem(&client.ask(method, path, &bearer(token)).await, 403, kind);
    }
    assert_eq!(client.ask("GET", "/stats", &bearer("metrics")).await.status, 200);
}

#[tokio::test]
async fn a_token_allows_only_its_pools_over_http2() {
    let lines = [line("own", "client", "default"), line("other", "client", "openai")];
    let (server, _) = guarded(&file("pools-http2", &lines)).await;
    let mut client = server.connect_http2().await;
    for (token, status) in [("own", 404), ("other", 403), ("own", 404), ("other", 403)] {
        let request =
            Request::get("http://test/keys").header("authorization", format!("Bearer {token}"));
        let answer = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{token}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let is_told = String::from_utf8_lossy(&body).contains(OTHER);
        assert_eq!(is_told, status == 403, "{body:?}");
    }
}

#[tokio::test]
async fn the_pools_of_a_token_change_with_the_file() {
    let file = file("pools-reload", &[line("a", "client", "default"), line("b", "client", "")]);
    let (server, access) = guarded(&file).await;
    let (mut hot, mut slow) = (server.connect().await, server.connect().await);
    for (lines, count, statuses) in [
        ("", 2, [404, 404]),
        (&*line("a", "client", "openai"), 1, [403, 401]),
        (&[line("b", "client", "def*,x"), line("a", "metrics", "")].concat(), 2, [403, 404]),
        (&line("b", "client", "x"), 1, [401, 403]),
        ("# none", 0, [401, 401]),
        (&line("a", "client", "*"), 1, [404, 401]),
    ] {
        if !lines.is_empty() {
            file.write_lines(lines);
            assert_eq!(access.reload().unwrap(), count);
        }
        for (token, status) in ["a", "b"].into_iter().zip(statuses) {
            for (client, way) in [(&mut hot, ""), (&mut slow, SLOW)] {
                for _ in 0..2 {
                    let answer =
                        client.ask("GET", "/keys", &format!("{}{way}", bearer(token))).await;
                    assert_eq!(answer.status, status, "{token} by {lines}");
                }
            }
        }
    }
    file.write_lines(&line("a", "client", "Default"));
    let error = access.reload().unwrap_err().to_string();
    assert!(
        error.contains(file.path()) && error.contains("line 1: \"Default\" cannot be the name")
    );
    assert_eq!(hot.ask("GET", "/keys", &bearer("a")).await.status, 404, "as before");
}

/// What `token new` prints is a line that the server takes, and does as it says.
#[test]
fn a_token_is_made_for_pools() {
    let file = File::new("made-for-pools", &[]);
    let mut made = Vec::new();
    let mut tokens = Vec::new();
    for (name, options, end) in [
        ("a", &["--pools", "openai,anthropic-*"][..], " openai,anthropic-*"),
        ("b", &[], ""),
        ("c", &["--pools", "default"], " default"),
        ("d", &["--pools", "*"], " *"),
    ] {
        let new = ["token", "new", "--role", "client", "--name", name];
        let printed = binary().args(new).args(options).output().unwrap().stdout;
        let printed = String::from_utf8(printed).unwrap();
        let (token, line) = printed.trim_end().split_once('\n').unwrap();
        let hash = TokenHash::of(token.as_bytes());
        assert_eq!(line, format!("{name} client {hash}{end}"));
        made.push(format!("{line}\n"));
        tokens.push(token.to_owned());
    }
    file.write_lines(&made.concat());
    let mut command = binary();
    let (mut child, address, mut lines) =
        start(command.args(["--listen", "127.0.0.1:0", "--auth-tokens", file.path()]));
    assert!(lines.next().unwrap().contains("/dashboard, documentation: http://"));
    assert!(lines.next().unwrap().contains("tokens: 4"));
    for (token, status) in tokens.iter().zip([2, 1, 1, 1]) {
        let get = ["get", ID, "--server", &format!("http://{address}")];
        let output = binary().args(get).env("TOKEN_ORCHESTRATOR_TOKEN", token).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let is_other = error_line(&output).contains(OTHER);
        assert_eq!(is_other, status == 2, "{}", error_line(&output));
    }
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_malformed_line_is_refused_with_its_file_its_number_and_the_right_form() {
    for (end, what) in [
        ("openai,", "a pool is missing before or after a comma"),
        ("openai anthropic", "as in openai,anthropic-*"),
        ("max-hold=1", "as in openai,anthropic-*"),
    ] {
        let file = file("bad-pools", &["# fine\n".to_owned(), line("a", "client", end)]);
        let output =
            binary().args(["--listen", "127.0.0.1:0", "--auth-tokens", file.path()]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{end}");
        let told = error_line(&output);
        for part in [file.path(), "line 2: ", what] {
            assert!(told.contains(part), "{end}: {told}");
        }
    }
}

/// What is not the name of a pool is none, however a token's patterns match it.
#[tokio::test]
async fn a_name_that_is_written_otherwise_leads_nowhere() {
    let lines =
        [line("some", "client", "a*"), line("admin", "admin", "a*"), line("all", "admin", "")];
    let (server, _) = guarded(&file("pools-encoded", &lines)).await;
    server.store.create(1).await.unwrap();
    let mut client = server.connect().await;
    let mut http2 = server.connect_http2().await;
    for name in ["a%ff", "a%2F..", "%61", "", "A"] {
        for token in ["some", "admin", "all"] {
            for (method, path) in
                [("GET", "/keys"), ("POST", "/leases"), ("GET", "/stats"), ("PUT", "/keepalive")]
            {
                let target = format!("/pools/{name}{path}");
                for way in ["", SLOW] {
                    let fields = format!("{}{way}", bearer(token));
                    let answer = client.ask(method, &target, &fields).await;
                    let expected = if token == "all" { 404 } else { 403 };
                    assert_eq!(answer.status, expected, "{token} {method} {target}");
                    assert!(answer.header("content-type").unwrap().contains("problem"));
                }
                let request = Request::builder()
                    .method(method)
                    .uri(format!("http://test{target}"))
                    .header("authorization", format!("Bearer {token}"));
                let answer =
                    http2.send_request(request.body(Full::default()).unwrap()).await.unwrap();
                assert!(matches!(answer.status().as_u16(), 403 | 404), "{token} {target}");
            }
        }
    }
    assert_eq!(server.store.stats().await.unwrap().leased, 0);
}
