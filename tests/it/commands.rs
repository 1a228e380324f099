//! The commands of the client, against the server, both as binaries.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::cli::{binary, error_line, signal, start};

/// A server that ends with its test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn new(arguments: &[&str]) -> Self {
        let mut command = binary();
        let (child, address, _) = start(command.args(["--listen", "127.0.0.1:0"]).args(arguments));
        Self { child, url: format!("http://{address}/") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.env("TOKEN_ORCHESTRATOR_SERVER", &self.url).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// What a command prints that succeeds.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ask(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What a command tells that fails.
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        error_line(&output)
    }

    fn total(&self, name: &str) -> u64 {
        self.json(&["stats"])["totals"][name].as_u64().unwrap()
    }

    fn free(&self) -> u64 {
        self.json(&["stats"])["free"].as_u64().unwrap()
    }

    /// Starts `run` with a shell script that prints a line when it is ready.
    fn run(&self, options: &[&str], script: &str) -> Child {
        let arguments = [&["run"], options, &["--", "sh", "-c", script]].concat();
        let mut command = self.command(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs until it gets SIGTERM.
const UNTIL_TERM: &str = "trap 'kill $!; exit 9' TERM; sleep 600 & echo ready; wait";

fn text(output: &[u8]) -> &str {
    str::from_utf8(output).unwrap()
}

fn end(child: Child) -> (Option<i32>, Output) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), output)
}

#[test]
fn commands_tell_people_what_they_did() {
    let server = Server::new(&[]);
    let id = &server.ask(&["create"]);
    assert_eq!(id.len(), 36);
    assert!(server.ask(&["get", id]).starts_with("free\ncreated 20"));
    let leased = server.ask(&["lease", "--lease", "30s"]);
    assert!(leased.starts_with(&format!("{id}  etag \"1\"  until 20")), "{leased}");
    let shown = server.ask(&["get", id]);
    assert!(shown.starts_with("blocked since 20") && shown.ends_with("etag    \"1\""), "{shown}");
    assert!(server.ask(&["renew", id, "--etag", "1"]).starts_with("leased until 20"));
    assert!(server.ask(&["keep-alive", id]).starts_with("alive until 20"));
    assert_eq!(server.ask(&["release", id, "--etag", "\"1\""]), "released");
    assert!(server.ask(&["lease", "--wait", "10s"]).starts_with(id));
    assert_eq!(server.ask(&["release", id, "--cooldown", "1h"]), "released");
    let stats = server.ask(&["stats"]);
    let lines: Vec<Vec<_>> = stats.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["keys", "1"]);
    assert_eq!(lines[3], ["cooling", "1"]);
    assert_eq!(server.ask(&["delete", id]), "deleted");
}

#[test]
fn commands_print_json() {
    let server = Server::new(&[]);
    let ids = server.json(&["create", "--count", "2"]);
    assert_eq!(ids["keyIds"].as_array().unwrap().len(), 2);
    assert!(ids["keyExpiresAt"].is_string());
    let lease = server.json(&["lease"]);
    let id = lease["keyId"].as_str().unwrap();
    assert_eq!(lease["etag"], "\"1\"");
    assert!(lease["leaseExpiresAt"].is_string());
    let info = server.json(&["get", id]);
    assert_eq!((&info["isBlocked"], &info["etag"]), (&Value::Bool(true), &lease["etag"]));
    assert_eq!(server.json(&["renew", id])["etag"], "\"1\"");
    assert!(server.json(&["keep-alive", id])["keyExpiresAt"].is_string());
    assert_eq!(server.json(&["release", id]), Value::Object(serde_json::Map::new()));
    assert_eq!(server.json(&["stats"])["free"], 2);
    let refusal: Value = serde_json::from_str(&server.refusal(&["renew", id, "--json"])).unwrap();
    assert_eq!(refusal["type"], "/problems/not-leased");
    server.ask(&["delete", id]);
    let refusal: Value = serde_json::from_str(&server.refusal(&["get", id, "--json"])).unwrap();
    assert_eq!(refusal["status"], 404);
}

#[test]
fn several_keys_go_by_one_command() {
    let server = Server::new(&[]);
    let created = server.ask(&["create", "--count", "3"]);
    let ids: Vec<_> = created.lines().collect();
    assert_eq!(server.ask(&["lease", "--count", "9"]).lines().count(), 3);
    assert_eq!(server.ask(&["release", ids[0], ids[1]]), "2 released");
    assert_eq!(server.ask(&["keep-alive", ids[0], ids[2]]), "2 kept alive");
    server.ask(&["delete", ids[0]]);
    let output = server.command(&["release", ids[0], ids[2]]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), "1 released\n"));
    assert_eq!(error_line(&output), format!("error: no such keys: {}\n", ids[0]));
    assert!(server.refusal(&["release", ids[1], ids[2], "--etag", "1"]).contains("one key"));
    assert_eq!(server.free(), 2);
}

#[test]
fn refusals_are_told() {
    let server = Server::new(&["--max-keys", "1"]);
    assert_eq!(server.refusal(&["lease"]), "error: no key is free.\n");
    let id = &server.ask(&["create"]);
    assert!(server.refusal(&["create"]).starts_with("error: The pool has no room."));
    server.ask(&["lease"]);
    assert!(server.refusal(&["lease"]).starts_with("error: no key is free. Try again in "));
    assert!(server.refusal(&["lease", "--lease", "2h"]).contains("from 1ms to 1m"));
    assert!(server.refusal(&["release", id, "--etag", "0"]).contains("The lease is over."));
    assert!(server.refusal(&["create", "--count", "0"]).contains("from 1 to 100000"));
    server.ask(&["delete", id]);
    assert_eq!(server.refusal(&["delete", id]), "error: no such key.\n");
    for wrong in [&["get", "x"][..], &["lease", "--lease", "x"], &["renew", id, "--etag", "x"]] {
        assert_eq!(server.command(wrong).status().unwrap().code(), Some(2), "{wrong:?}");
    }
    let address = server.url.clone();
    drop(server);
    let output = binary().args(["stats", "--server", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error_line(&output).starts_with(&format!("error: no answer from {address}: ")));
}

#[test]
fn a_command_runs_with_a_key_and_its_status_is_passed_on() {
    let server = Server::new(&[]);
    let id = server.ask(&["create"]);
    for (script, status) in [("exit 0", 0), ("exit 77", 77), ("kill -KILL $$", 137)] {
        let script = format!("printf %s $TOKEN_ORCHESTRATOR_KEY; {script}");
        let output = server.command(&["run", "--", "sh", "-c", &script]).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(status), &id[..]));
        assert!(output.stderr.is_empty(), "{output:?}");
        assert_eq!(server.free(), 1, "the key was not released");
    }
    assert_eq!((server.total("leased"), server.total("released")), (3, 3));
    let rest = server.command(&["run", "--cooldown", "1h", "true"]).status().unwrap();
    assert!(rest.success());
    assert_eq!(server.json(&["stats"])["cooling"], 1);
}

#[test]
fn a_command_that_cannot_run_leaves_the_key_free() {
    let server = Server::new(&[]);
    let none = server.command(&["run", "true"]).output().unwrap();
    assert_eq!(
        (none.status.code(), error_line(&none)),
        (Some(125), "error: no key is free.\n".into())
    );
    server.ask(&["create"]);
    for (command, status) in [("no-such-command", 127), ("/", 126)] {
        let output = server.command(&["run", command]).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        assert!(error_line(&output).contains(command));
        assert_eq!(server.free(), 1);
    }
}

/// The command ends when it has seen its lease renewed again and again.
#[test]
fn lease_and_key_last_as_long_as_the_command() {
    let server = Server::new(&["--lease-ttl", "1s", "--key-ttl", "2s"]);
    server.ask(&["create"]);
    let program = env!("CARGO_BIN_EXE_token-orchestrator");
    let script = format!(
        "echo ready; count=0 last=
        while [ $count -lt 8 ]; do
            now=$({program} get $TOKEN_ORCHESTRATOR_KEY --json) || exit 1
            now=${{now#*blockedAt}}; now=${{now%%createdAt*}}
            [ \"$now\" = \"$last\" ] || count=$((count + 1))
            last=$now
        done"
    );
    assert_eq!(end(server.run(&[], &script)).0, Some(0));
    assert_eq!((server.total("leased"), server.total("released")), (1, 1));
    assert_eq!((server.total("leaseTimeouts"), server.total("expired")), (0, 0));
}

#[test]
fn signals_reach_the_command() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let child = server.run(&[], UNTIL_TERM);
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(9));
    assert_eq!(server.free(), 1);
    // Without a handler it dies by it.
    for (name, number) in [("INT", 2), ("USR1", 10)] {
        let child = server.run(&[], "echo ready; exec sleep 600");
        signal(&child, name);
        assert_eq!(end(child).0, Some(128 + number), "SIG{name}");
    }
    assert_eq!(server.free(), 1);
}

#[test]
fn a_command_that_loses_its_lease_is_told_to_end() {
    let server = Server::new(&["--lease-ttl", "300ms"]);
    let id = server.ask(&["create"]);
    let child = server.run(&[], UNTIL_TERM);
    server.ask(&["release", &id]);
    let (status, output) = end(child);
    assert_eq!(status, Some(9));
    assert!(error_line(&output).starts_with("error: the lease is lost: "), "{output:?}");
    // Deleted, and then without a server.
    let child = server.run(&[], UNTIL_TERM);
    server.ask(&["delete", &id]);
    let (status, output) = end(child);
    assert_eq!(status, Some(9));
    assert!(error_line(&output).contains("has died or was deleted"), "{output:?}");
    server.ask(&["create"]);
    let child = server.run(&[], UNTIL_TERM);
    drop(server);
    let (status, output) = end(child);
    assert_eq!(status, Some(9));
    assert!(text(&output.stderr).contains("the server has not answered in time"), "{output:?}");
}

#[test]
fn run_waits_for_a_key() {
    let server = Server::new(&[]);
    let waiter = || {
        let child = server.command(&["run", "--wait", "60s", "--", "true"]).spawn().unwrap();
        while server.json(&["stats"])["waiting"] != 1 {}
        child
    };
    let child = waiter();
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(143));
    while server.json(&["stats"])["waiting"] != 0 {}
    let child = waiter();
    server.ask(&["create"]);
    assert_eq!(end(child).0, Some(0));
    assert_eq!(server.free(), 1);
}
