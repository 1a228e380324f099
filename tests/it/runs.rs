//! `run`: a command that has a key for as long as it runs.

mod leases;
mod proxy;
mod signals;
mod stops;
mod strays;
mod terminals;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::{error_line, signal};
use crate::commands::Server;

/// `run` with a shell script that prints a line when it is ready.
fn run_command(server: &Server, options: &[&str], script: &str) -> Command {
    // What runs the tests may ignore signals, as in the background of a shell.
    let mut command = Command::new("env");
    let program = env!("CARGO_BIN_EXE_token-orchestrator");
    command.args(["--default-signal", program, "run"]).args(options);
    command.args(["--", "sh", "-c", script]).env("TOKEN_ORCHESTRATOR_SERVER", &server.url);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a script that prints `ready` when it is, and numbers of processes behind it.
fn ready(command: &mut Command) -> (Child, Vec<u32>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let numbers = line.strip_prefix("ready").unwrap_or_else(|| panic!("not ready: {line:?}"));
    (child, numbers.split_whitespace().map(|number| number.parse().unwrap()).collect())
}

fn start_run(server: &Server, options: &[&str], script: &str) -> Child {
    ready(&mut run_command(server, options, script)).0
}

/// The exit status if the lease was lost.
const LOST: i32 = 124;
/// Runs until it gets SIGTERM.
const UNTIL_TERM: &str = "trap 'exit 9' TERM; sleep 600 & echo ready; wait";

/// The state of a process, such as `S` or `T`; `None` if it has ended.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next().filter(|state| *state != 'Z')
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "in vain: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn text(output: &[u8]) -> &str {
    str::from_utf8(output).unwrap()
}

fn end(child: Child) -> (Option<i32>, Output) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), output)
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
    let rest = server.command(&["run", "--cooldown", "1h", "--", "true"]).status().unwrap();
    assert!(rest.success());
    assert_eq!(server.json(&["stats"])["cooling"], 1);
}

#[test]
fn a_command_that_cannot_run_leaves_the_key_free() {
    let server = Server::new(&[]);
    let none = server.command(&["run", "--", "true"]).output().unwrap();
    assert_eq!(none.status.code(), Some(125));
    assert!(error_line(&none).starts_with("error: no key is free. "), "{none:?}");
    server.ask(&["create"]);
    for (command, status) in [("no-such-command", 127), ("/", 126)] {
        let output = server.command(&["run", "--", command]).output().unwrap();
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
    assert_eq!(end(start_run(&server, &[], &script)).0, Some(0));
    assert_eq!((server.total("leased"), server.total("released")), (1, 1));
    assert_eq!((server.total("leaseTimeouts"), server.total("expired")), (0, 0));
}

/// As with nohup.
#[test]
fn what_is_ignored_stays_ignored() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let program = env!("CARGO_BIN_EXE_token-orchestrator");
    let script = format!(
        "trap '' HUP; exec {program} run -- sh -c 'echo ready; kill -HUP $$; kill -HUP $PPID; exec sleep 600'"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("TOKEN_ORCHESTRATOR_SERVER", &server.url);
    let (child, _) = ready(&mut command);
    signal(&child, "HUP");
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(128 + 15));
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

/// The lease was ended by somebody else, and the key has another holder when the command ends.
#[test]
fn the_next_holder_keeps_the_key() {
    let server = Server::new(&[]);
    let id = server.ask(&["create"]);
    let child = start_run(&server, &[], UNTIL_TERM);
    server.ask(&["release", &id]);
    let lease = server.json(&["lease"]);
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(9));
    let info = server.json(&["get", &id]);
    assert_eq!((&info["isBlocked"], &info["etag"]), (&true.into(), &lease["etag"]));
}

/// A broken standard error is no reason to leave a command with a lost lease.
#[test]
fn nobody_needs_to_listen() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let server = Server::new(&["--lease-ttl", "300ms"]);
    let mut none = server.command(&["run", "--", "true"]);
    assert_eq!(none.stderr(full()).status().unwrap().code(), Some(125));
    let mut wrong = server.command(&["get", "x"]);
    assert_eq!(wrong.stderr(full()).status().unwrap().code(), Some(2));
    let id = server.ask(&["create"]);
    let mut command = run_command(&server, &[], UNTIL_TERM);
    let (child, _) = ready(command.stderr(full()));
    server.ask(&["delete", &id]);
    assert_eq!(end(child).0, Some(LOST));
    // Nor is a pipe that nobody reads.
    let (_reader, mut pipe) = std::io::pipe().unwrap();
    let is_full = |pipe: &std::io::PipeWriter| {
        let mut ready = [PollFd::new(pipe, PollFlags::OUT)];
        poll(&mut ready, Some(&Timespec::default())).unwrap() == 0
    };
    while !is_full(&pipe) {
        pipe.write_all(&[b'x'; 4096]).unwrap();
    }
    let id = server.ask(&["create"]);
    let mut command =
        run_command(&server, &["--kill-after", "1ms"], "trap '' TERM; echo ready; sleep 600");
    let (child, _) = ready(command.stderr(pipe));
    server.ask(&["delete", &id]);
    assert_eq!(end(child).0, Some(128 + 9));
}

#[test]
fn a_cool_down_that_is_refused_does_not_keep_the_key() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let output = server.command(&["run", "--cooldown", "2h", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(error_line(&output).starts_with("error: the key does not cool down: "), "{output:?}");
    assert_eq!(server.free(), 1);
}

/// It is the client's token, not the command's.
#[test]
fn a_command_does_not_get_the_token() {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let script = "echo ${TOKEN_ORCHESTRATOR_TOKEN-none} ${TOKEN_ORCHESTRATOR_SERVER:+server}";
    let mut command = server.command(&["run", "--", "sh", "-c", script]);
    let output = command.env("TOKEN_ORCHESTRATOR_TOKEN", "x".repeat(43)).output().unwrap();
    assert_eq!(text(&output.stdout), "none server\n", "{output:?}");
}
