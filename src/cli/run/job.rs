//! The command and the processes that it has started.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    set_child_subreaper, wait,
};
use rustix_libc_wrappers::process::SignalExt;

use super::processes::{Process, Processes};
use super::start::arguments;

/// This program. The link leads to it even if another version was installed meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How often processes are looked for that have started others before they were stopped.
const LOOKS_MAX: u32 = 10;

/// What became of the command.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Its process is about to become the command, when it is continued.
    Ready,
    /// It was stopped by this signal.
    Stopped(i32),
    /// It has ended.
    Ended(WaitStatus),
}

/// The command and all processes that come from it, also those that left its group or lost their parents.
///
/// This program is the one that processes without parents go to, so all of them stay its descendants.
pub(super) struct Job {
    /// The number of the command and of its group.
    command: Pid,
    is_ready: bool,
    /// How the command ended.
    pub(super) ended: Option<WaitStatus>,
    /// Children that this program had before, as after `exec` in a shell. They do not belong to the command.
    earlier: HashSet<Pid>,
    /// Processes that were stopped here and are to go on.
    stopped: Vec<Pid>,
    has_children: bool,
}

impl Job {
    /// Starts the command, whose process then waits to be continued. `blocked` are the signals that it finds
    /// blocked, `prepare` adds to its environment.
    ///
    /// # Errors
    ///
    /// If the system has no process left, or /proc is missing.
    pub(super) fn start(
        command: &[OsString],
        blocked: u64,
        prepare: impl FnOnce(&mut Command),
    ) -> io::Result<Self> {
        let earlier = match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => Vec::new(),
            _ => Processes::now().descendants(&HashSet::new()),
        };
        let earlier = earlier.into_iter().map(|process| process.pid).collect();
        set_child_subreaper(Some(getpid()))?;
        let mut process = Command::new(THIS_PROGRAM);
        process.arg0("token-orchestrator").args(arguments(blocked, command)).process_group(0);
        prepare(&mut process);
        // `changes` waits for it.
        let child = process.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot execute {THIS_PROGRAM}: {error}"))
        })?;
        let command = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let command = command.expect("a process has a number from 1 to 2^31 - 1");
        let (ended, stopped) = (None, Vec::new());
        Ok(Self { command, is_ready: false, ended, earlier, stopped, has_children: true })
    }

    pub(super) fn group(&self) -> Pid {
        self.command
    }

    /// Waits for all children that have ended, and returns what became of the command. O(ended children).
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid == self.command => {
                    changes.push(match status.stopping_signal() {
                        Some(_) if !self.is_ready => {
                            self.is_ready = true;
                            Change::Ready
                        }
                        Some(signal) => Change::Stopped(signal),
                        None => {
                            self.ended = Some(status);
                            Change::Ended(status)
                        }
                    });
                }
                Ok(Some((pid, status))) => {
                    if !status.stopped() {
                        self.earlier.remove(&pid);
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) => return changes,
                Err(_) => {
                    self.has_children = false;
                    return changes;
                }
            }
        }
    }

    /// Whether the command and everything that comes from it has ended. O(processes of the machine), O(1)
    /// if this program has no child or the command runs.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() && (!self.has_children || self.processes().is_empty())
    }

    /// Passes on a signal that this program got. O(1).
    ///
    /// Those that ask a program to end go to the whole group of the command, as from a terminal; the others
    /// may be understood by the command alone.
    pub(super) fn pass_on(&self, number: i32) {
        let Some(signal) = Signal::from_raw(number).filter(|_| self.ended.is_none()) else {
            return;
        };
        // The command was not waited for, so its number is not used again.
        let _ = match signal {
            Signal::INT | Signal::QUIT | Signal::TERM => kill_process_group(self.command, signal),
            _ => kill_process(self.command, signal),
        };
    }

    /// Asks all processes to end. O(processes of the machine).
    pub(super) fn terminate(&mut self) {
        self.send(Signal::TERM);
        // One that is stopped notices nothing.
        self.send(Signal::CONT);
        self.stopped.clear();
    }

    /// Kills all processes. Returns one that is left and that this program may not kill, if there are only
    /// such. O(processes of the machine).
    pub(super) fn kill(&mut self) -> Option<Pid> {
        let sent = self.send(Signal::KILL);
        let denied = sent.iter().find(|(_, result)| **result == Err(Errno::PERM));
        denied.map(|(pid, _)| *pid).filter(|_| sent.values().all(|sent| *sent == Err(Errno::PERM)))
    }

    /// Stops all processes. O(processes of the machine), up to ten times.
    pub(super) fn stop(&mut self) {
        if !self.is_ready {
            // The command's process is about to stop by itself.
            return;
        }
        if self.ended.is_none() {
            let _ = kill_process_group(self.command, Signal::STOP);
        }
        for _ in 0..LOOKS_MAX {
            let left = self.processes().into_iter();
            // Those that the user had stopped stay so in the end.
            let left = left.filter(|it| !it.is_stopped && !self.stopped.contains(&it.pid));
            let left: Vec<_> = left.map(|process| process.pid).collect();
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = kill_process(pid, Signal::STOP);
                self.stopped.push(pid);
            }
        }
    }

    /// Continues the command's group, and what was stopped here. O(stopped).
    pub(super) fn resume(&mut self) {
        if !self.is_ready {
            return;
        }
        if self.ended.is_none() {
            let _ = kill_process_group(self.command, Signal::CONT);
        }
        for pid in self.stopped.drain(..) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    fn processes(&self) -> Vec<Process> {
        Processes::now().descendants(&self.earlier)
    }

    /// Sends a signal to each process: to the group at once, so that none escapes by starting another, and to
    /// those outside of it. Returns what became of it.
    fn send(&self, signal: Signal) -> HashMap<Pid, rustix::io::Result<()>> {
        let mut sent = HashMap::new();
        if self.ended.is_none() {
            sent.insert(self.command, kill_process_group(self.command, signal));
        }
        for process in self.processes() {
            let is_member = process.group == self.command.as_raw_pid() && self.ended.is_none();
            if !is_member {
                sent.insert(process.pid, kill_process(process.pid, signal));
            }
        }
        sent
    }
}
