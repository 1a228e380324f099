//! Signals that reach this program, and those that reach the command.

use std::process::Command;

use super::{UNTIL_TERM, end, ready, run_command, start_run, state, text, wait_until};
use crate::cli::signal;
use crate::commands::Server;

#[test]
fn signals_reach_the_command() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let child = start_run(&server, &[], UNTIL_TERM);
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(9));
    assert_eq!(server.free(), 1);
    // Without a handler it dies by it. None of them may end this program and leave the command alone: all that
    // end a program, but for SIGKILL and those that the C library keeps for itself. 17 to 23 are those of job
    // control, and one that is ignored.
    for number in
        (1..=64).filter(|number| ![9, 17, 18, 19, 20, 21, 22, 23, 28, 32, 33].contains(number))
    {
        let child = start_run(&server, &[], "ulimit -c 0; echo ready; exec sleep 600");
        signal(&child, &number.to_string());
        assert_eq!(end(child).0, Some(128 + number), "signal {number}");
    }
    assert_eq!(server.free(), 1);
}

/// What counts the signals that it gets, and exits with their number.
const COUNT: &str = "n=0; trap 'n=$((n + 1))' TERM; echo ready; \
    while [ $n = 0 ]; do sleep 0.1; done; sleep 1; exit $n";

/// `timeout` sends each signal to its command and then to the group that both are in.
#[test]
fn a_signal_that_is_sent_to_the_group_arrives_once() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let mut timeout = Command::new("timeout");
    let run = run_command(&server, &[], COUNT);
    timeout.args(["--preserve-status", "600", "env"]).args(run.get_args());
    timeout.env("TOKEN_ORCHESTRATOR_SERVER", &server.url);
    let (child, _) = ready(&mut timeout);
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(1));
    assert_eq!(server.free(), 1, "the key was not released");
}

/// A shell runs its trap when the program that it waits for has ended, so that must get the signal, too.
#[test]
fn sigterm_reaches_the_group_of_the_command_and_other_signals_the_command_alone() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let child = start_run(&server, &[], "trap 'exit 9' TERM; echo ready; sleep 600; exit 1");
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(9));
    let script = "trap 'usr1=1' USR1; sleep 600 & echo ready $!; while [ -z \"$usr1\" ]; do sleep 0.01; done; kill -0 $! && exit 9";
    let (child, _) = ready(&mut run_command(&server, &[], script));
    signal(&child, "USR1");
    assert_eq!(end(child).0, Some(9));
}

#[test]
fn a_command_does_not_outlive_this_program() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let script = "trap '' TERM HUP; echo ready $$; while :; do sleep 600; done";
    let (mut child, pids) = ready(&mut run_command(&server, &[], script));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the command ends", || state(pids[0]).is_none());
}

/// What starts this program may have blocked or ignored signals. The command finds what it would find without.
#[test]
fn a_command_finds_its_signals_as_they_were() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let masks = |run: &[&str]| {
        let mut command = Command::new("env");
        command.args(["--default-signal", "--block-signal=USR1", "--ignore-signal=HUP"]).args(run);
        command.args(["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]);
        let output = command.env("TOKEN_ORCHESTRATOR_SERVER", &server.url).output().unwrap();
        text(&output.stdout).to_owned()
    };
    let program = env!("CARGO_BIN_EXE_token-orchestrator");
    assert_eq!(masks(&[program, "run", "--"]), masks(&[]));
}
