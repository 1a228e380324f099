//! The commands of the client, against the server, both as binaries.

use std::env;
use std::process::{Command, Stdio};

use serde_json::Value;
use token_orchestrator::key::KeyId;

use crate::cli::{Started, binary, error_line, start};

/// A server that ends with its test.
pub(crate) struct Server {
    _child: Started,
    pub(crate) url: String,
}

impl Server {
    /// Its keys are its own, and where `tests/with-store` says, if that runs the tests.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut command = binary();
        command.envs(env::vars().filter(|(name, _)| name.starts_with("TOKEN_ORCHESTRATOR_STORE")));
        command.env(
            "TOKEN_ORCHESTRATOR_STORE_PREFIX",
            format!("to-{}", KeyId::random(&mut rand::rng())),
        );
        let (child, address, _) = start(command.args(["--listen", "127.0.0.1:0"]).args(arguments));
        Self { _child: child, url: format!("http://{address}/") }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.env("TOKEN_ORCHESTRATOR_SERVER", &self.url).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// What a command prints that succeeds.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ask(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What a command tells that fails.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        error_line(&output)
    }

    pub(crate) fn total(&self, name: &str) -> u64 {
        self.json(&["stats"])["totals"][name].as_u64().unwrap()
    }

    pub(crate) fn free(&self) -> u64 {
        self.json(&["stats"])["free"].as_u64().unwrap()
    }
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
    assert_eq!(lines[3], ["cooling", "down", "1"]);
    assert!(stats.contains("\n  leases begun ") && !stats.contains("totals"), "{stats}");
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
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(1), "1 released\n")
    );
    assert!(error_line(&output).starts_with(&format!("error: no such keys: {}. ", ids[0])));
    assert!(server.refusal(&["release", ids[1], ids[2], "--etag", "1"]).contains("one key"));
    assert_eq!(server.free(), 2);
}

#[test]
fn refusals_are_told() {
    let server = Server::new(&["--max-keys", "1"]);
    assert!(
        server.refusal(&["lease"]).starts_with("error: no key is free. Create or import more keys")
    );
    let id = &server.ask(&["create"]);
    assert!(server.refusal(&["create"]).starts_with("error: The pool is full."));
    server.ask(&["lease"]);
    assert!(server.refusal(&["lease"]).contains("--wait 30s. Try again in "));
    assert!(server.refusal(&["lease", "--lease", "2h"]).contains("from 1ms to 1m"));
    assert!(
        server
            .refusal(&["release", id, "--etag", "0"])
            .contains("the key no longer has that lease")
    );
    server.ask(&["delete", id]);
    assert!(server.refusal(&["delete", id]).starts_with(&format!("error: no such key: {id}. ")));
    for (wrong, named) in [
        (&["get", "x"][..], "key id"),
        (&["lease", "--lease", "x"], "--lease"),
        (&["renew", id, "--etag", "x"], "--etag"),
        (&["create", "--count", "0"], "from 1 to 100000"),
        (&["release"], "<ID>"),
        (&["run", "--waitt", "5s", "--", "true"], "--waitt"),
        (&["run"], "<CMD>"),
        (&["leas"], "'lease'"),
        (&["stats", "--server", "ftp://localhost"], "https://HOST:PORT"),
        (&["stats", "--server", "http://user:secret@localhost"], "password"),
    ] {
        let output = server.command(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let line = error_line(&output);
        assert!(line.contains(named) && !line.contains("Usage"), "{wrong:?}: {line}");
    }
    let mut command = server.command(&["stats"]);
    assert!(command.env("TOKEN_ORCHESTRATOR_LISTEN", "nowhere").output().unwrap().status.success());
    // No proxy is asked.
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(proxy, "http://127.0.0.1:1");
    }
    assert!(command.env_remove("no_proxy").output().unwrap().status.success());
    let address = server.url.clone();
    drop(server);
    let output = binary().args(["stats", "--server", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error_line(&output).starts_with(&format!("error: no answer from {address}: ")));
}
