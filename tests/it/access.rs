//! Tokens and roles, on both paths to the handlers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use token_orchestrator::http::{Access, Role, ServeOptions, TokenHash};
use token_orchestrator::store::{Options, StoreExt};

use crate::cli::{binary, error_line, signal, start};
use crate::client::Server;

/// A file of tokens that goes with its test.
pub(crate) struct File(PathBuf);

impl File {
    /// With a token for each of these roles; it is the role's name.
    pub(crate) fn new(test: &str, roles: &[Role]) -> Self {
        let name = format!("token-orchestrator-{test}-{}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(roles);
        file
    }

    pub(crate) fn access(&self) -> Access {
        Access::by_tokens(self.0.clone()).unwrap()
    }

    fn write(&self, roles: &[Role]) {
        let line = |role: &Role| {
            format!("{0} {0} {1}\n", role.name(), TokenHash::of(role.name().as_bytes()))
        };
        self.write_lines(&roles.iter().map(line).collect::<String>());
    }

    pub(crate) fn write_lines(&self, lines: &str) {
        fs::write(&self.0, lines).unwrap();
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(crate) async fn guarded(file: &File) -> (Server, Access) {
    let access = file.access();
    let serve = ServeOptions { access: access.clone(), ..ServeOptions::default() };
    (Server::start(Options::default(), serve).await, access)
}

pub(crate) fn bearer(role: Role) -> String {
    format!("Authorization: Bearer {}\r\n", role.name())
}

const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

/// What each role gets that may not, may, and would do. A server without keys answers 404 to most.
#[tokio::test]
async fn each_role_may_do_what_it_is_for_and_no_more() {
    let file = File::new("roles", &Role::ALL);
    let (server, _) = guarded(&file).await;
    let (key, lease, life) =
        (format!("/keys/{ID}"), format!("/keys/{ID}/lease"), format!("/keepalive/{ID}"));
    // By [client, admin, metrics].
    let cases = [
        ("GET", "/keys", [404, 404, 403]),
        ("GET", "/keys?wait=0s", [400, 400, 403]),
        ("GET", "/keys?count=2", [404, 404, 403]),
        ("PUT", "/keys", [400, 400, 403]),
        ("POST", "/keys", [403, 201, 403]),
        ("GET", &key, [404, 404, 403]),
        ("HEAD", &key, [404, 404, 403]),
        ("PUT", &key, [404, 404, 403]),
        ("DELETE", &key, [403, 404, 403]),
        ("PUT", &lease, [404, 404, 403]),
        ("PUT", &life, [404, 404, 403]),
        ("PUT", "/keepalive", [400, 400, 403]),
        ("GET", "/stats", [200, 200, 200]),
        ("GET", "/metrics", [403, 200, 200]),
        ("GET", "/nowhere", [403, 404, 403]),
        ("PATCH", "/keys", [403, 405, 403]),
    ];
    for (method, path, statuses) in cases {
        // Twice by one connection: what it was allowed is remembered, and must not be for another role.
        for _ in 0..2 {
            let mut client = server.connect().await;
            let answer = client.ask(method, path, "").await;
            assert_eq!(answer.status, 401, "{method} {path}");
            let challenge = r#"Bearer realm="token-orchestrator""#;
            assert_eq!(answer.header("www-authenticate"), Some(challenge));
            for (role, status) in Role::ALL.into_iter().zip(statuses) {
                let answer = client.ask(method, path, &bearer(role)).await;
                assert_eq!(answer.status, status, "{method} {path} as {}", role.name());
                if [403, 404, 405].contains(&status) {
                    assert_eq!(answer.header("www-authenticate"), None);
                }
            }
        }
    }
    assert_eq!(server.store.stats().await.unwrap().totals.created, 2);
    for path in ["/healthz", "/readyz", "/dashboard", "/openapi.json", "/docs/"] {
        assert_eq!(server.send("GET", path, "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_none() {
    let file = File::new("wrong", &Role::ALL);
    let (server, _) = guarded(&file).await;
    let mut client = server.connect().await;
    for (value, is_token) in [
        ("Bearer wrong", true),
        ("Bearer ", false),
        ("Bearer clien", true),
        ("Bearer client2", true),
        ("Bearer client admin", true),
        ("Basic client", false),
        ("Bearerclient", false),
        ("client", false),
        ("", false),
    ] {
        for path in ["/keys", "/stats"] {
            let answer = client.ask("GET", path, &format!("Authorization: {value}\r\n")).await;
            assert_eq!(answer.status, 401, "{value}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert_eq!(challenge.contains("invalid_token"), is_token, "{value}: {challenge}");
            assert_eq!(answer.json()["type"], "/problems/unauthorized");
        }
    }
    let two = bearer(Role::Client).repeat(2);
    assert_eq!(client.ask("GET", "/keys", &two).await.status, 401);
    for value in ["bearer client", "BEARER  client", "Bearer client  "] {
        let answer = client.ask("GET", "/keys", &format!("authorization: {value}\r\n")).await;
        assert_eq!(answer.status, 404, "{value}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_does_nothing_and_keeps_its_connection() {
    let file = File::new("refused", &[Role::Client]);
    let (server, _) = guarded(&file).await;
    let mut client = server.connect().await;
    let body = "x".repeat(100_000);
    let answer = client.send("POST", "/keys", &body).await;
    assert_eq!(answer.status, 401);
    assert_eq!(client.send("POST", "/keys", r#"{"count":5}"#).await.status, 401);
    assert_eq!(client.ask("GET", "/keys", &bearer(Role::Client)).await.status, 404);
    assert_eq!(server.store.stats().await.unwrap().totals.created, 0);
}

#[tokio::test]
async fn what_is_taken_out_of_the_file_is_of_no_more_use() {
    let file = File::new("reload", &[Role::Client, Role::Metrics]);
    let (server, access) = guarded(&file).await;
    let mut client = server.connect().await;
    let mut hot = server.connect().await;
    let mut viewer = server.connect().await;
    let events = "/dashboard/events";
    let close = format!("{}Connection: close\r\n", bearer(Role::Metrics));
    assert_eq!(viewer.ask("GET", events, &close).await.status, 200);
    for client in [&mut client, &mut hot] {
        assert_eq!(client.ask("GET", "/keys", &bearer(Role::Client)).await.status, 404);
    }
    assert_eq!(client.ask("GET", "/stats", &bearer(Role::Client)).await.status, 200);
    file.write(&[Role::Admin, Role::Metrics]);
    assert_eq!(access.reload().unwrap(), 2);
    for (client, path) in [(&mut client, "/stats"), (&mut hot, "/keys")] {
        assert_eq!(client.ask("GET", path, &bearer(Role::Client)).await.status, 401, "{path}");
        assert_ne!(client.ask("GET", path, &bearer(Role::Admin)).await.status, 401, "{path}");
    }
    // One who watches must ask again.
    let mut stream = viewer.into_stream();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await.unwrap();
    fs::write(&file.0, "nonsense").unwrap();
    assert!(access.reload().unwrap_err().to_string().contains("line 1"));
    fs::remove_file(&file.0).unwrap();
    fs::create_dir(&file.0).unwrap();
    assert!(access.reload().unwrap_err().to_string().contains("not a regular file"));
    fs::remove_dir(&file.0).unwrap();
    assert_eq!(client.ask("GET", "/stats", &bearer(Role::Admin)).await.status, 200);
    // An empty file revokes the last token, on both paths.
    fs::write(&file.0, "# none").unwrap();
    assert_eq!(access.reload().unwrap(), 0);
    for (client, path) in [(&mut client, "/stats"), (&mut hot, "/keys")] {
        assert_eq!(client.ask("GET", path, &bearer(Role::Admin)).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_on_both_paths() {
    let server = Server::default().await;
    server.create().await;
    let mut client = server.connect().await;
    for (method, path) in [("GET", "/keys"), ("POST", "/keys"), ("GET", "/stats")] {
        for site in ["cross-site", "same-site"] {
            let answer = client.ask(method, path, &format!("Sec-Fetch-Site: {site}\r\n")).await;
            assert_eq!(answer.status, 403, "{method} {path}");
            assert_eq!(answer.json()["type"], "/problems/cross-site");
        }
    }
    let totals = server.store.stats().await.unwrap().totals;
    assert_eq!((totals.created, totals.leases), (1, 0));
    for origin in ["http://evil.example", "http://test.evil.example", "null", "http://test:80"] {
        for (method, path) in [("GET", "/keys"), ("POST", "/keys"), ("GET", "/stats")] {
            let answer = client.ask(method, path, &format!("Origin: {origin}\r\n")).await;
            assert_eq!(answer.status, 403, "{method} {path} {origin}");
        }
    }
    assert_eq!(client.ask("GET", "/stats", "Origin: https://test\r\n").await.status, 200);
    let two = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(client.ask("GET", "/stats", two).await.status, 403);
    // What the browser says holds where a proxy has changed the host.
    let proxied = "Origin: https://pool.example\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(client.ask("GET", "/stats", proxied).await.status, 200);
    // A link from elsewhere may lead here.
    assert_eq!(client.ask("GET", "/dashboard", "Sec-Fetch-Site: cross-site\r\n").await.status, 200);
    for site in ["same-origin", "none"] {
        let answer = client.ask("GET", "/stats", &format!("Sec-Fetch-Site: {site}\r\n")).await;
        assert_eq!(answer.status, 200, "{site}");
    }
}

#[test]
fn a_token_that_was_made_is_one_that_is_known() {
    let new = binary().args(["token", "new", "--role", "client", "--name", "worker"]).output();
    let text = String::from_utf8(new.unwrap().stdout).unwrap();
    let (token, line) = text.trim_end().split_once('\n').unwrap();
    assert!(line.starts_with("worker client "));
    let file = File::new("made", &[]);
    file.write_lines(line);
    let serve = ["--listen", "0.0.0.0:0", "--auth-tokens", file.path()];
    let mut command = binary();
    let (mut child, address, mut lines) = start(command.args(serve));
    let address = address.replace("0.0.0.0", "127.0.0.1");
    let ask = |token: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let fields = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
        let head = format!("GET /keys HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(ask(token), 404);
    assert_eq!(ask("other"), 401);
    assert!(lines.next().unwrap().contains("/dashboard, documentation: http://"));
    assert!(lines.next().unwrap().contains("tokens: 1"));
    assert!(lines.next().unwrap().contains("tokens are sent unencrypted"));
    // Read anew, and refused.
    fs::write(&file.0, format!("other admin {}", TokenHash::of(b"other"))).unwrap();
    signal(&child, "HUP");
    assert!(lines.next().unwrap().contains("SIGHUP: reloaded the file of tokens; tokens: 1"));
    assert_eq!((ask(token), ask("other")), (401, 404));
    fs::write(&file.0, "other admin").unwrap();
    signal(&child, "HUP");
    assert!(lines.next().unwrap().contains("line 1: a name, a role and a SHA-256"));
    assert_eq!((ask(token), ask("other")), (401, 404));
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_without_files_lives_on_after_sighup_whatever_is_said_of_other_logs() {
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0"]).env("RUST_LOG", "h2=debug");
    let (mut child, _, mut lines) = start(&mut command);
    assert!(lines.next().unwrap().contains("/dashboard, documentation: http://"));
    signal(&child, "HUP");
    assert!(lines.next().unwrap().contains("SIGHUP: nothing to reload"));
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_file_that_is_wrong_keeps_the_server_from_running() {
    let file = File::new("bad", &[]);
    fs::write(&file.0, "# fine\nadmin").unwrap();
    for (path, what) in [(file.0.to_str().unwrap(), "line 2"), ("/nowhere/at/all", "No such file")]
    {
        let output = binary().args(["--listen", "127.0.0.1:0", "--auth-tokens", path]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(error_line(&output).contains(path) && error_line(&output).contains(what));
    }
}
