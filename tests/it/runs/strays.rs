//! Processes that the command has started.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{LOST, end, ready, run_command, state, text};
use crate::cli::signal;
use crate::commands::Server;

/// A child in the group, one in a session of its own, and one whose parent has ended. None of them notices
/// SIGTERM.
const FAMILY: &str = "trap '' TERM; sleep 600 & a=$!; setsid sleep 600 & b=$!; \
    c=$( (setsid sleep 600 >/dev/null & echo $!) ); echo ready $a $b $c $$";

#[test]
fn all_that_a_command_has_started_ends_with_its_lease() {
    let server = Server::new(&["--lease-ttl", "2s"]);
    let id = server.ask(&["create"]);
    let (child, pids) = ready(&mut run_command(&server, &[], &format!("{FAMILY}; wait")));
    assert_eq!(pids.len(), 4);
    server.ask(&["delete", &id]);
    assert_eq!(end(child).0, Some(128 + 9));
    assert_eq!(pids.iter().filter_map(|pid| state(*pid)).count(), 0, "some go on");
}

/// They could use the key, which is free for others then.
#[test]
fn all_that_a_command_has_started_ends_with_the_command() {
    let server = Server::new(&["--lease-ttl", "2s"]);
    server.ask(&["create"]);
    let script = format!("{FAMILY}; exit 7");
    let (child, pids) = ready(&mut run_command(&server, &["--kill-after", "100ms"], &script));
    assert_eq!(end(child).0, Some(7));
    assert_eq!(pids.iter().filter_map(|pid| state(*pid)).count(), 0, "some go on");
    assert_eq!((server.total("released"), server.total("leaseTimeouts")), (1, 0));
}

/// As in a start script: `helper & exec token-orchestrator run -- CMD`.
#[test]
fn what_the_command_has_not_started_goes_on() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let mut shell = Command::new("sh");
    let script =
        "sleep 600 >/dev/null & echo ready $!; exec \"$0\" run -- sh -c 'sleep 600 & exit 3'";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_token-orchestrator")]);
    let (child, pids) = ready(shell.env("TOKEN_ORCHESTRATOR_SERVER", &server.url));
    assert_eq!(end(child).0, Some(3));
    assert!(state(pids[0]).is_some(), "it was ended");
    let pid = Pid::from_raw(pids[0].try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Whether processes may have their own numbers here, as in a container. That takes privileges.
fn may_unshare(options: &[&str]) -> bool {
    let tried = Command::new("unshare").args(options).arg("true").stderr(Stdio::null()).status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!("not tried: unshare {options:?} is not allowed here");
    }
    may
}

/// The first process of a container gets all orphans. It must wait for them, or zombies pile up.
#[test]
fn as_the_first_process_it_waits_for_orphans() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    // With and without a /proc of its own. In the latter processes have other numbers.
    for (options, is_own) in [(&["--mount-proc"][..], 1), (&[], 0)] {
        let options = [&["--pid", "--fork", "--kill-child"], options].concat();
        if !may_unshare(&options) {
            continue;
        }
        let script = "[ $PPID = 1 ] || exit 1
            for i in 1 2 3 4 5; do (true &); done
            (setsid sleep 600 >/dev/null 2>&1 &)
            zombies() { grep -l '^PPid:.1$' /proc/[0-9]*/status | xargs grep -l '^State:.Z' | wc -l; }
            tries=0
            while [ $0 = 1 ] && [ $(zombies) != 0 ]; do
                tries=$((tries + 1)); [ $tries = 100 ] && exit 2; sleep 0.05
            done 2>/dev/null
            exit 7";
        let mut command = Command::new("unshare");
        command.args(&options).args([env!("CARGO_BIN_EXE_token-orchestrator"), "run", "--"]);
        command.args(["sh", "-c", script, &is_own.to_string()]);
        let output = command.env("TOKEN_ORCHESTRATOR_SERVER", &server.url).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(7), ""), "{options:?}");
        assert_eq!(server.free(), 1);
    }
}

/// It gets no signal that it does not handle, unlike other processes.
#[test]
fn the_first_process_of_a_container_ends_its_command() {
    let options = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    if !may_unshare(&options) {
        return;
    }
    let server = Server::new(&["--lease-ttl", "2s"]);
    let id = server.ask(&["create"]);
    let run = run_command(&server, &[], "trap 'exit 9' TERM; echo ready; sleep 600");
    let mut command = Command::new("unshare");
    command.args(options).arg("env").args(run.get_args());
    command.env("TOKEN_ORCHESTRATOR_SERVER", &server.url).stderr(Stdio::piped());
    let (child, _) = ready(&mut command);
    server.ask(&["delete", &id]);
    assert_eq!(end(child).0, Some(LOST));
}

/// Nothing is left when a signal has ended the command and not those that ignore it.
#[test]
fn what_ignores_a_signal_ends_with_the_command() {
    let server = Server::new(&["--lease-ttl", "2s"]);
    server.ask(&["create"]);
    let script = "(trap '' INT; exec sleep 600) & echo ready $!; wait";
    let (child, pids) = ready(&mut run_command(&server, &[], script));
    signal(&child, "INT");
    assert_eq!(end(child).0, Some(128 + 2));
    assert_eq!(state(pids[0]), None);
    assert_eq!(server.free(), 1);
}
