//! Job control in a terminal.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use super::{state, wait_until};
use crate::cli::binary;
use crate::commands::Server;

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
/// Prints its number, and what it gets. It starts nothing later: a shell that is just starting a program (vfork) cannot
/// stop before that program runs, and the program may be stopped already.
const TRAP: &str =
    "trap 'echo got-int; exit 5' INT; sleep 600 & echo pid=$$.; while :; do wait; done";

/// A program in a terminal of its own.
struct Screen {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    /// An interactive shell with job control, in which `run` starts the program and `$TRAP` is a script.
    fn shell(server: &Server) -> Self {
        // A shell passes on what it ignores itself, and what runs the tests may ignore Ctrl-C, as in the background of
        // a shell.
        let mut command = Command::new("env");
        command.args(["--default-signal", "script", "--quiet", "--return", "--flush", "--command"]);
        command.args(["bash --norc --noprofile -i", "/dev/null"]);
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_ORCHESTRATOR_"))
        {
            command.env_remove(name);
        }
        command.env("TOKEN_ORCHESTRATOR_SERVER", &server.url).env("TRAP", TRAP).env("PS1", "> ");
        command.env("PROGRAM", binary().get_program()).env("TERM", "dumb");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut output, shown) =
            (child.stdout.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let seen = Arc::clone(&shown);
        spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        let mut screen = Self { child, shown };
        // What is typed is not shown, so that it is not taken for output.
        screen.keys("stty -echo; run() { \"$PROGRAM\" run -- \"$@\"; }; echo shell-$((40 + 2))\n");
        screen.wait_for("shell-42");
        screen
    }

    fn keys(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        wait_until(&format!("{text:?} is shown"), || self.shown().contains(text));
    }

    /// The number of the command, when it has shown it.
    fn pid(&self) -> u32 {
        self.wait_for(".\r\n");
        let shown = self.shown();
        let (_, number) = shown.split_once("pid=").unwrap();
        number.split('.').next().unwrap().parse().unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal hangs up, which ends the shell and its jobs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the terminal sends its keys to the group of a command or to that of `run`.
///
/// A shell that takes a job to the foreground does not tell a job that runs. `run` passes the keys on then.
fn has_terminal(pid: u32) -> bool {
    let fields = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let command = fields(&pid.to_string());
    let [_, parent, group, _, _, foreground, ..] = &command[..] else { return false };
    foreground == group || fields(parent).get(2) == Some(foreground)
}

fn setting() -> (Server, Screen) {
    let server = Server::new(&[]);
    server.ask(&["create"]);
    let screen = Screen::shell(&server);
    (server, screen)
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let (server, mut screen) = setting();
    screen.keys("run sh -c \"$TRAP\"; echo status-$?\n");
    screen.pid();
    screen.keys(CTRL_C);
    screen.wait_for("status-5");
    assert_eq!(screen.shown().matches("got-int").count(), 1);
    assert_eq!(server.free(), 1);
}

#[test]
fn ctrl_z_stops_both_and_fg_continues_them() {
    let (server, mut screen) = setting();
    screen.keys("run sh -c \"$TRAP\"\n");
    let pid = screen.pid();
    screen.keys(CTRL_Z);
    screen.wait_for("Stopped");
    assert_eq!(state(pid), Some('T'));
    screen.keys("bg; echo in-$((40 + 2))\n");
    screen.wait_for("in-42");
    wait_until("the command goes on", || state(pid) == Some('S'));
    screen.keys("fg\n");
    wait_until("the command has the terminal again", || has_terminal(pid));
    screen.keys(CTRL_C);
    screen.wait_for("got-int");
    wait_until("the key is released", || server.free() == 1);
    screen.keys("echo shell-$((1000 + 1))\n");
    screen.wait_for("shell-1001");
}

/// The script stops as well, or the shell would not notice.
#[test]
fn ctrl_z_stops_a_script_around_it() {
    let (server, mut screen) = setting();
    screen.keys("bash -c '\"$PROGRAM\" run -- sh -c \"$TRAP\"; echo script-$?'\n");
    let pid = screen.pid();
    screen.keys(CTRL_Z);
    screen.wait_for("Stopped");
    assert_eq!(state(pid), Some('T'));
    screen.keys("fg\n");
    wait_until("the command goes on", || state(pid) == Some('S') && has_terminal(pid));
    screen.keys(CTRL_C);
    // The command has handled the key, so the script goes on.
    screen.wait_for("script-5");
    assert_eq!(server.free(), 1);
}

/// Programs that use the terminal see it as theirs.
#[test]
fn a_command_can_read_from_the_terminal() {
    let (_server, mut screen) = setting();
    let is_in_front =
        "set -- $(cut -d \" \" -f 5,8 /proc/$$/stat); [ $1 = $$ ] && [ $2 = $$ ] || exit 1";
    screen.keys(&format!(
        "run sh -c '{is_in_front}; echo pid=$$.; read -r line; echo read-$line'; echo status-$?\n"
    ));
    screen.pid();
    screen.keys("words\n");
    screen.wait_for("read-words");
    screen.wait_for("status-0");
}

/// A pager beside it needs the terminal as well, so a part of a pipeline gets it when it asks.
#[test]
fn a_part_of_a_pipeline_gets_the_terminal_when_it_reads_from_it() {
    let (_server, mut screen) = setting();
    screen.keys(
        "run sh -c 'echo pid=$$.; read -r line </dev/tty; echo read-$line' | cat; echo status-$?\n",
    );
    screen.pid();
    screen.keys("words\n");
    screen.wait_for("read-words");
    screen.wait_for("status-0");
}

#[test]
fn ctrl_c_ends_a_pipeline_that_the_command_is_a_part_of() {
    let (server, mut screen) = setting();
    screen.keys("run sh -c 'echo pid=$$.; exec sleep 600' | cat; echo status-$?-$((40 + 2))\n");
    screen.pid();
    screen.keys(CTRL_C);
    wait_until("the key is released", || server.free() == 1);
    screen.keys("echo shell-$((1000 + 1))\n");
    screen.wait_for("shell-1001");
}

/// A script that waits for a program ends if Ctrl-C ended that program.
#[test]
fn ctrl_c_ends_a_script_around_it() {
    let (server, mut screen) = setting();
    screen.keys("bash -c '\"$PROGRAM\" run -- sh -c \"echo pid=\\$\\$.; exec sleep 600\"; echo not-reached'\n");
    screen.pid();
    screen.keys(CTRL_C);
    wait_until("the key is released", || server.free() == 1);
    screen.keys("echo shell-$((1000 + 1))\n");
    screen.wait_for("shell-1001");
    assert!(!screen.shown().contains("not-reached"), "{}", screen.shown());
}
