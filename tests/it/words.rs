//! What the client tells people of a server that cannot be trusted, or does not behave.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

use rcgen::date_time_ymd;

use crate::certificates::Files;
use crate::cli::{binary, error_line};
use crate::commands;
use crate::trust::{Server, answer_once, refusal, stats};

fn https(address: impl std::fmt::Display) -> String {
    format!("https://{address}/")
}

#[test]
fn a_certificate_that_is_not_accepted_is_told_in_words() {
    let files = Files::new();
    let (ca, other) = (files.path("ca.pem"), Files::new());
    let other_ca = other.path("ca.pem");
    let told = |url: &str, ca: Option<&str>| {
        let mut command = stats(url);
        let command = command.args(ca.into_iter().flat_map(|path| ["--ca-cert", path]));
        // That of the library.
        let line = refusal(command);
        assert!(line.starts_with("{\"detail\":\"no answer from https://"), "{line}");
        assert!(!line.contains("InvalidCertificate") && !line.contains("peer"), "{line}");
        line
    };
    let server = Server::new(&files);
    let url = https(server.address);
    assert!(told(&url, None).contains("name its issuer with --ca-cert FILE"));
    let line = told(&url, Some(&other_ca));
    assert!(line.contains(&format!("no issuer in {other_ca} has issued")), "{line}");
    drop(server);
    files.renew_as(&["localhost", "127.0.0.1"], |params| {
        params.not_after = date_time_ymd(2020, 2, 29);
    });
    let server = Server::new(&files);
    let line = told(&https(server.address), Some(&ca));
    assert!(line.contains("expired at 2020-02-29T00:00:00Z; renew it"), "{line}");
    drop(server);
    files.renew_as(&["localhost", "127.0.0.1"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let server = Server::new(&files);
    let line = told(&https(server.address), Some(&ca));
    assert!(line.contains("not valid before 4000-01-01T00:00:00Z; set the clock"), "{line}");
    drop(server);
    files.renew_as(&["keys.example", "10.0.0.1"], |_| {});
    let server = Server::new(&files);
    let line = told(&https(server.address), Some(&ca));
    assert!(line.contains("not for 127.0.0.1 but for keys.example, 10.0.0.1; use"), "{line}");
}

/// And from one that is not there.
#[test]
fn a_server_that_speaks_tls_and_one_that_does_not_are_told_apart() {
    let files = Files::new();
    let server = Server::new(&files);
    let line = refusal(&mut stats(&format!("http://{}", server.address)));
    assert!(line.contains("write https:// instead of http://"), "{line}");
    let plain = commands::Server::new(&[]);
    let line = refusal(&mut stats(&plain.url.replace("http:", "https:")));
    assert!(line.contains("does not speak TLS; write http:// instead of https://"), "{line}");
    let url = plain.url.clone();
    drop(plain);
    assert!(refusal(&mut stats(&url)).contains("nothing listens there; start the server, or"));
    // One that says nothing at all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = https(listener.local_addr().unwrap());
    let closing = thread::spawn(move || drop(listener.accept().unwrap()));
    let line = refusal(&mut stats(&url));
    assert!(line.contains("no answer from"), "{line}");
    closing.join().unwrap();
}

/// Whatever a terminal might obey.
const HOSTILE: &str = r#"\u001b]0;title\u0007\u001b[2J\u009b31m\u007f\r\b\u202e\n""#;

/// What a command prints, whose server answers with this.
fn printed(arguments: &[&str], status: &str, fields: &str, body: &str) -> Output {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n");
    let (url, _) = answer_once(head + body);
    let mut command: Command = binary();
    command.args(arguments).args(["--server", &url]).output().unwrap()
}

#[test]
fn a_terminal_obeys_nothing_that_a_server_sends() {
    let id = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    let other = "936da01f-9abd-4d9d-80c7-02af85c822a9";
    let h = HOSTILE.trim_end_matches('"');
    let object = format!(
        r#"{{"keyId":"{h}","keyIds":["{h}"],"missing":["{h}"],"blockedAt":"{h}","createdAt":"{h}","{h}":"{h}",
            "keys":[{{"keyId":"{h}","etag":"{h}","state":"{h}"}}],"totals":{{"{h}":"{h}"}},"cursor":null,
            "pools":[{{"pool":"{h}","stats":{{"keys":"{h}"}}}}],"settings":{{"{h}":"{h}"}},"stats":{{"{h}":"{h}"}}}}"#
    );
    let problem = format!(r#"{{"type":"{h}","title":"{h}","detail":"{h}"}}"#);
    let settings =
        format!(r#"{{"type":"/problems/invalid-settings","title":"{h}","detail":"{h} maxKeys"}}"#);
    let run = ["run", "--", "true"];
    for (arguments, status, body) in [
        (&["create"][..], "201 Created", &object),
        (&["lease"], "200 OK", &object),
        (&["get", id], "200 OK", &object),
        (&["renew", id], "200 OK", &object),
        (&["keep-alive", id], "200 OK", &object),
        (&["release", id], "200 OK", &object),
        (&["release", id, other], "200 OK", &object),
        (&["keep-alive", id, other], "200 OK", &object),
        (&["delete", id], "200 OK", &object),
        (&["stats"], "200 OK", &object),
        (&["list"], "200 OK", &object),
        (&["pools"], "200 OK", &object),
        (&["pool", "show", "a"], "200 OK", &object),
        (&["pool", "set", "a", "--reset"], "201 Created", &object),
        (&["pool", "set", "a"], "422 Unprocessable Content", &settings),
        (&["pool", "delete", "a"], "200 OK", &object),
        (&["lease"], "400 Bad Request", &problem),
        (&["lease"], "401 Unauthorized", &problem),
        (&["get", id], "404 Not Found", &problem),
        (&["stats"], "503 Service Unavailable", &problem),
        (&run[..1], "503 Service Unavailable", &problem),
    ] {
        for form in [None, Some("--json")] {
            let is_run = arguments == ["run"];
            let mut all = arguments.to_vec();
            all.extend(form.filter(|_| !is_run));
            let fields =
                "ETag: \x1b[2J\x7f\r\nRetry-After: \u{9b}1\r\nLease-Expires-At: \x1b[2J\r\n";
            let output = if is_run {
                let (url, _) = answer_once(format!("HTTP/1.1 {status}\r\n\r\n{body}"));
                binary().args(["run", "--server", &url]).args(&run[1..]).output().unwrap()
            } else {
                printed(&all, status, fields, body)
            };
            let all_text = [&output.stdout[..], &output.stderr].concat();
            let text = String::from_utf8(all_text).unwrap();
            let is_obeyed = |c: char| c == '\u{202e}' || (c.is_control() && c != '\n');
            assert!(!text.contains(is_obeyed), "{all:?} {status}: {text:?}");
            assert!(!text.is_empty(), "{all:?} {status}");
            if !output.status.success() && !output.stderr.is_empty() {
                error_line(&output);
            }
        }
    }
}

#[test]
fn a_missing_token_is_told_with_the_option_for_it() {
    let files = Files::new();
    files.write("tokens", "");
    let server = commands::Server::new(&["--auth-tokens", &files.path("tokens")]);
    let mut command = server.command(&["stats"]);
    for token in [None, Some("tok_unknown")] {
        command.envs(token.map(|token| ("TOKEN_ORCHESTRATOR_TOKEN", token)));
        let line = refusal(&mut command);
        assert!(
            line.contains("--token-file FILE") && line.contains("TOKEN_ORCHESTRATOR_TOKEN"),
            "{line}"
        );
    }
}
