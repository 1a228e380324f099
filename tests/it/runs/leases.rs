//! What becomes of the command when its lease cannot be kept.

use std::process::{Child, Command};

use super::proxy::{Network, Proxy};
use super::{LOST, UNTIL_TERM, end, ready, run_command, start_run, state, text, wait_until};
use crate::cli::{error_line, signal};
use crate::commands::Server;

/// Runs until it gets SIGKILL.
const UNTIL_KILL: &str = "trap '' TERM; echo ready $$; while :; do sleep 600; done";

fn run_through(proxy: &Proxy, server: &Server, options: &[&str], script: &str) -> Command {
    let mut command = run_command(server, options, script);
    command.env("TOKEN_ORCHESTRATOR_SERVER", &proxy.url);
    command
}

/// When the lease of the only key began, by the server.
fn blocked_at(server: &Server, id: &str) -> String {
    server.json(&["get", id])["blockedAt"].to_string()
}

#[test]
fn a_command_that_loses_its_lease_is_told_to_end() {
    let server = Server::new(&["--lease-ttl", "2s"]);
    let id = server.ask(&["create"]);
    let told = |child: Child| {
        let (status, output) = end(child);
        // The status of the command could be taken for that of finished work.
        assert_eq!(status, Some(LOST), "{output:?}");
        // A second line may say that the key was not released.
        let line = text(&output.stderr).lines().next().unwrap().to_owned();
        assert!(line.starts_with("error: the lease is lost: "), "{line}");
        assert!(line.ends_with(" The command gets SIGTERM."), "{line}");
        line
    };
    let child = start_run(&server, &[], UNTIL_TERM);
    server.ask(&["release", &id]);
    server.ask(&["lease"]);
    assert!(told(child).contains("the key no longer has that lease"));
    server.ask(&["release", &id]);
    let child = start_run(&server, &[], UNTIL_TERM);
    server.ask(&["delete", &id]);
    assert!(told(child).contains("has expired or was deleted"));
    server.ask(&["create"]);
    let proxy = Proxy::new(&server.url);
    for network in [Network::Cut, Network::Silent] {
        let (child, _) = ready(&mut run_through(&proxy, &server, &[], UNTIL_TERM));
        proxy.set(network);
        let line = told(child);
        assert!(line.contains("could not be renewed in time: no answer from"), "{line}");
        proxy.set(Network::Works);
        wait_until("the key is free", || server.free() == 1);
    }
}

#[test]
fn a_command_that_does_not_end_is_killed() {
    let server = Server::new(&["--lease-ttl", "2s"]);
    let id = server.ask(&["create"]);
    let child = start_run(&server, &["--kill-after", "50ms"], UNTIL_KILL);
    server.ask(&["delete", &id]);
    assert_eq!(end(child).0, Some(128 + 9));
}

/// The next holder must not find the previous one at work, even if it ignores SIGTERM.
#[test]
fn a_command_is_gone_when_the_next_holder_comes() {
    let server = Server::new(&["--lease-ttl", "4s"]);
    server.ask(&["create"]);
    let proxy = Proxy::new(&server.url);
    for network in [Network::Cut, Network::Silent] {
        proxy.set(Network::Works);
        let mut command = run_through(&proxy, &server, &["--kill-after", "2s"], UNTIL_KILL);
        let (child, pids) = ready(&mut command);
        proxy.set(network);
        let next = server.json(&["lease", "--wait", "60s"]);
        assert_eq!(state(pids[0]), None, "two holders work");
        assert_eq!(end(child).0, Some(128 + 9));
        server.ask(&["release", next["keyId"].as_str().unwrap()]);
    }
}

#[test]
fn run_outlasts_a_server_that_is_away_for_less_than_the_lease() {
    let server = Server::new(&["--lease-ttl", "30s", "--max-lease", "30s"]);
    let id = server.ask(&["create"]);
    let proxy = Proxy::new(&server.url);
    let options = ["--lease", "10s", "--kill-after", "100ms"];
    let (child, _) = ready(&mut run_through(&proxy, &server, &options, UNTIL_TERM));
    proxy.set(Network::Cut);
    // It has tried to renew the lease, several times.
    wait_until("attempts", || proxy.refused() >= 3);
    let before = blocked_at(&server, &id);
    proxy.set(Network::Works);
    wait_until("a renewal", || blocked_at(&server, &id) != before);
    signal(&child, "TERM");
    let (status, output) = end(child);
    assert_eq!((status, text(&output.stderr)), (Some(9), ""));
    assert_eq!((server.total("leased"), server.total("released")), (1, 1));
}

#[test]
fn a_time_to_end_that_the_lease_does_not_allow_is_refused() {
    let server = Server::new(&["--lease-ttl", "4s", "--key-ttl", "8s"]);
    server.ask(&["create"]);
    for (options, lasts) in [
        (&["--kill-after", "10s"][..], "4s"),
        // Before a key is leased, if that much is known.
        (&["--kill-after", "2s", "--lease", "2s"], "2s"),
        (&["--lease", "100ms"], "100ms"),
    ] {
        let output =
            server.command(&["run"]).args(options).args(["--", "echo", "started"]).output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        let line = error_line(&output);
        assert!(line.contains(&format!("can be used for {lasts} without a renewal")), "{line}");
        assert!(line.contains("--lease"), "{line}");
        assert_eq!(server.free(), 1, "the key was not released");
    }
    // By default, it is what the lease allows.
    assert!(server.command(&["run", "--", "true"]).status().unwrap().success());
}
