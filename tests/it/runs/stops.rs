//! Job control without a terminal: this program and its command are stopped and continued.

use std::os::unix::process::CommandExt;
use std::process::Child;
use std::{env, fs};

use super::{LOST, UNTIL_TERM, end, ready, run_command, start_run, state, text, wait_until};
use crate::cli::signal;
use crate::commands::Server;

/// Starts `run` in a group of its own, as a shell with job control does.
fn job(server: &Server, script: &str) -> (Child, Vec<u32>) {
    ready(run_command(server, &[], script).process_group(0))
}

fn wait_for_state(pid: u32, expected: char) {
    wait_until(&format!("process {pid} becomes {expected}"), || state(pid) == Some(expected));
}

/// Neither its command nor anything that comes from it runs while nobody renews the lease.
#[test]
fn a_program_that_stops_takes_its_command_along() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let script = "trap 'exit 9' TERM; setsid sleep 600 & sleep 600 & echo ready $$ $!; wait";
    let (child, pids) = job(&server, script);
    for name in ["TSTP", "TTIN", "TTOU"] {
        signal(&child, name);
        wait_for_state(child.id(), 'T');
        for pid in &pids {
            assert_eq!(state(*pid), Some('T'), "SIG{name}");
        }
        signal(&child, "CONT");
        for pid in pids.iter().copied().chain([child.id()]) {
            wait_for_state(pid, 'S');
        }
    }
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(9));
    assert_eq!(server.free(), 1);
}

#[test]
fn a_command_does_not_go_on_when_its_lease_ended_meanwhile() {
    let server = Server::new(&["--lease-ttl", "2s"]);
    server.ask(&["create"]);
    let written = env::temp_dir().join(format!("run-stopped-{}", std::process::id()));
    let script =
        format!("exec 3>{}; echo ready $$; while :; do echo x >&3; done", written.display());
    let (child, pids) = job(&server, &script);
    signal(&child, "TSTP");
    wait_for_state(child.id(), 'T');
    wait_for_state(pids[0], 'T');
    let length = || fs::metadata(&written).unwrap().len();
    let before = length();
    wait_until("the lease ends", || server.free() == 1);
    signal(&child, "CONT");
    let (status, output) = end(child);
    assert_eq!(length(), before, "it went on");
    assert_eq!(status, Some(128 + 9));
    assert!(text(&output.stderr).contains("was stopped until it was too late"), "{output:?}");
    fs::remove_file(written).unwrap();
}

#[test]
fn a_program_that_waits_for_a_key_can_be_stopped() {
    let server = Server::new(&[]);
    let mut command = server.command(&["run", "--wait", "60s", "--", "true"]);
    let child = command.process_group(0).spawn().unwrap();
    wait_until("it waits", || server.json(&["stats"])["waiting"] == 1);
    signal(&child, "TSTP");
    wait_for_state(child.id(), 'T');
    signal(&child, "CONT");
    server.ask(&["create"]);
    assert_eq!(end(child).0, Some(0));
    assert_eq!(server.free(), 1);
}

/// Whoever stops the command alone, such as a debugger, continues it alone. Its lease lasts.
#[test]
fn the_lease_of_a_command_that_is_stopped_alone_is_renewed() {
    let server = Server::new(&["--lease-ttl", "1s"]);
    let id = server.ask(&["create"]);
    let (child, pids) = ready(&mut run_command(
        &server,
        &[],
        "trap 'exit 9' TERM; echo ready $$; while :; do sleep 0.01; done",
    ));
    let stop = |name| {
        let pid = rustix::process::Pid::from_raw(pids[0].try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, name).unwrap();
    };
    stop(rustix::process::Signal::STOP);
    wait_for_state(pids[0], 'T');
    let at = || server.json(&["get", &id])["blockedAt"].to_string();
    for _ in 0..4 {
        let before = at();
        wait_until("a renewal", || at() != before);
    }
    assert_eq!((state(pids[0]), server.total("leaseTimeouts")), (Some('T'), 0));
    stop(rustix::process::Signal::CONT);
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(9));
}

/// A process that is stopped would not notice SIGTERM.
#[test]
fn a_stopped_command_that_loses_its_lease_is_told_to_end() {
    let server = Server::new(&["--lease-ttl", "8s"]);
    let id = server.ask(&["create"]);
    let child = start_run(&server, &[], &UNTIL_TERM.replace("wait", "kill -STOP $$; wait"));
    server.ask(&["delete", &id]);
    assert_eq!(end(child).0, Some(LOST));
}
