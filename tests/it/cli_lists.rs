//! Lists of the command line: page after page, as long as somebody reads.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{binary, error_line, request};
use crate::commands::Server;
use crate::trust::answer_once;

/// More than two pages, and far more text than fits into a pipe.
const KEYS: usize = 2500;

/// A server with [`KEYS`] keys in the pool `p`, and their ids.
fn filled(arguments: &[&str]) -> (Server, BTreeSet<String>) {
    let server = Server::new(arguments);
    server.ask(&["pool", "set", "p", "--key-ttl", "never"]);
    let created = server.ask(&["create", "--pool", "p", "--count", &KEYS.to_string()]);
    let ids = created.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(ids.len(), KEYS);
    (server, ids)
}

/// Lines with words at the columns of the headings.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let headings =
        ["id", "state", "since", "until", "created", "expires", "leases", "holder", "labels"];
    assert_eq!(lines.next().unwrap(), headings);
    lines.inspect(|row| assert_eq!(row.len(), headings.len(), "{row:?}")).collect()
}

fn address(server: &Server) -> &str {
    server.url.trim_start_matches("http://").trim_end_matches('/')
}

/// The value of a metric, 0 if it is not there.
fn metric(server: &Server, name: &str) -> u64 {
    let metrics = request(address(server), "GET", "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[test]
fn all_keys_are_listed_over_many_pages() {
    let (server, ids) = filled(&[]);
    let rest = server.ask(&["lease", "--pool", "p"]);
    let rest = rest.split(' ').next().unwrap();
    server.ask(&["release", "--pool", "p", rest, "--cooldown", "1h"]);
    let leased = server.ask(&["lease", "--pool", "p", "--lease", "60s"]);
    let leased = leased.split(' ').next().unwrap();
    let listed = server.ask(&["list", "--pool", "p"]);
    let listed = rows(&listed);
    assert_eq!(listed.len(), KEYS);
    assert_eq!(listed.iter().map(|row| row[0].to_owned()).collect::<BTreeSet<_>>(), ids);
    for row in &listed {
        let state = if row[0] == rest {
            "cooling"
        } else if row[0] == leased {
            "blocked"
        } else {
            "free"
        };
        assert_eq!((row[1], row[5]), (state, "never"), "{row:?}");
        let has_times = row[2].starts_with("20") && row[3].starts_with("20");
        assert_eq!((has_times, row[6] == "1"), (state != "free", state != "free"), "{row:?}");
        assert!(row[4].starts_with("20"), "{row:?}");
    }
    for (state, count) in [("free", KEYS - 2), ("blocked", 1), ("cooling", 1)] {
        let some = server.ask(&["list", "--pool", "p", "--state", state]);
        assert!(rows(&some).iter().all(|row| row[1] == state));
        assert_eq!(rows(&some).len(), count, "{state}");
    }
    // The list of the pool default.
    assert_eq!(rows(&server.ask(&["list"])).len(), 0);
}

#[test]
fn json_has_a_key_a_line_as_the_server_has_it() {
    let (server, ids) = filled(&[]);
    let printed = server.ask(&["list", "--pool", "p", "--json"]);
    let listed: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listed_ids = listed.iter().map(|key| key["keyId"].as_str().unwrap().to_owned());
    assert_eq!(listed_ids.collect::<BTreeSet<_>>(), ids);
    let page = request(address(&server), "GET", "/pools/p/inventory?limit=1");
    let page: Value = serde_json::from_str(page.rsplit("\r\n").next().unwrap()).unwrap();
    assert_eq!(listed[0], page["keys"][0]);
    assert_eq!(server.ask(&["list", "--json"]), "");
}

#[test]
fn a_limit_is_of_the_list_and_not_of_a_page() {
    let (server, _) = filled(&[]);
    for limit in [1, 999, 1000, 1001, 2500, 9999] {
        let listed = server.ask(&["list", "--pool", "p", "--limit", &limit.to_string()]);
        assert_eq!(rows(&listed).len(), limit.min(KEYS), "{limit}");
    }
    for wrong in ["0", "-1", "all", ""] {
        let output = server.command(&["list", &format!("--limit={wrong}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(error_line(&output).contains("--limit"), "{wrong}");
    }
    let output = server.command(&["list", "--state", "leased"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error_line(&output).contains("free, blocked, cooling"), "{output:?}");
}

#[test]
fn all_pools_are_listed_over_many_pages() {
    const POOLS: usize = 1005;
    let server = Server::new(&["--max-pools", "2000"]);
    for number in 0..POOLS {
        let answer = request(address(&server), "PUT", &format!("/pools/p{number:04}"));
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    let table = server.ask(&["pools"]);
    let names: Vec<_> = table.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let mut expected = vec!["pool".to_owned(), "default".to_owned()];
    expected.extend((0..POOLS).map(|number| format!("p{number:04}")));
    assert_eq!(names, expected);
    assert_eq!(server.ask(&["pools", "--json"]).lines().count(), POOLS + 1);
}

/// As before `head -n 1`: no word, no error, and no further request.
#[test]
fn a_list_ends_quietly_when_nobody_reads_on() {
    let (server, _) = filled(&[]);
    let asked = "token_orchestrator_http_requests_total{method=\"GET\",route=\"/pools/{pool}/inventory\",status=\"200\"}";
    for (form, pages) in [("--pool=p", 1), ("--json", 2)] {
        let mut command = server.command(&["list", "--pool=p"]);
        command.args(Some(form).filter(|form| *form == "--json"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // The first page fills the pipe, so the program is still at it when the pipe closes.
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
        assert_eq!(metric(&server, asked), pages, "{form}");
    }
}

/// As before a pager: the connection has long been closed when the next page is asked for.
#[test]
fn a_list_outlives_its_connection() {
    let (server, _) = filled(&["--idle-timeout", "2s"]);
    let mut command = server.command(&["list", "--pool", "p"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let (began, open) = (Instant::now(), "token_orchestrator_connections{address=\"main\"}");
    // That of this request is left.
    while metric(&server, open) > 1 {
        assert!(began.elapsed() < Duration::from_mins(1), "the connection stays open");
        thread::sleep(Duration::from_millis(20));
    }
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(rows(&(line + &rest)).len(), KEYS);
}

/// Neither for ever, nor to where a server sends a client by its cursor.
#[test]
fn a_list_that_does_not_go_on_ends() {
    for body in [
        r#"{"keys":[{"keyId":"a\nb"}],"cursor":"a&state=free"}"#,
        r#"{"keys":[{"keyId":"a\nb"}],"cursor":"a b"}"#,
        r#"{"keys":[{"keyId":"a\nb"}],"cursor":7}"#,
    ] {
        let length = body.len();
        let (url, asked) =
            answer_once(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
        let output = binary().args(["list", "--server", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{body}");
        assert!(error_line(&output).contains("the answer is no list that goes on"), "{output:?}");
        assert!(asked.join().unwrap().starts_with("GET /pools/default/inventory?limit=1000 "));
        // No text breaks its line.
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let body = r#"{"keys":[{}],"cursor":"same"}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all((head.clone() + body).as_bytes()).unwrap();
        }
    });
    let output = binary().args(["list", "--server", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error_line(&output).contains("no list that goes on"), "{output:?}");
    let (url, _) = answer_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned());
    let output = binary().args(["list", "--server", &url, "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_str(&error_line(&output)).unwrap();
    assert!(told["detail"].as_str().unwrap().contains("--server"), "{told}");
}
