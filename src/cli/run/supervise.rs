//! Runs a command for as long as its lease lasts.

use std::pin::pin;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitStatus, kill_current_process_group};

use super::clock::{now, sleep_until};
use super::job::{Change, Job};
use super::keeper::Keeper;
use super::processes::{nobody_continues, stop_this};
use super::signals::{Means, Received, Signals};
use super::terminal::Terminal;
use crate::cli::report::report_at_once;

/// How long after SIGKILL it is tried again, as processes may have started others.
const KILL_AGAIN: Duration = Duration::from_millis(100);

/// How a command ended.
pub(super) struct Ended {
    /// `None` if that is not known.
    pub(super) status: Option<WaitStatus>,
    /// Whether the command had to end because its lease was lost.
    pub(super) is_lost: bool,
    /// Whether Ctrl-C ended it.
    pub(super) is_interrupted: bool,
}

struct Supervisor<'a> {
    job: Job,
    terminal: Terminal,
    keeper: &'a Keeper,
    /// When the processes that are left get SIGKILL.
    kill_at: Option<Duration>,
    /// A process that this program may not kill, if only such are left.
    denied: Option<Pid>,
    is_lost: bool,
    /// Whether this program has stopped itself and the processes of the command.
    is_suspended: bool,
    ctrl_c: CtrlC,
    is_over: bool,
}

/// What Ctrl-C has done.
#[derive(Clone, Copy, PartialEq)]
enum CtrlC {
    Nothing,
    /// This program got it, and passed it on.
    Arrived,
    /// The command was ended by it.
    EndedCommand,
}

/// Runs the command until it and everything that comes from it has ended. Renews the lease and passes signals
/// on meanwhile. If the lease cannot be kept, the processes are ended before it is over.
pub(super) async fn supervise(
    job: Job,
    terminal: Terminal,
    keeper: &Keeper,
    signals: &mut Signals,
) -> Ended {
    let mut keeping = pin!(keeper.keep());
    let mut this = Supervisor {
        job,
        terminal,
        keeper,
        kill_at: None,
        denied: None,
        is_lost: false,
        is_suspended: false,
        ctrl_c: CtrlC::Nothing,
        is_over: false,
    };
    while !this.is_over {
        // In this order, so that no flood of signals delays SIGKILL.
        tokio::select! {
            biased;
            () = sleep_until(this.kill_at.unwrap_or_default()), if this.kill_at.is_some() => this.kill(),
            why = &mut keeping, if !this.is_lost => this.lose(&why),
            signal = signals.next() => this.handle(&signal),
        }
    }
    this.terminal.take();
    let (is_lost, is_interrupted) = (this.is_lost, this.ctrl_c == CtrlC::EndedCommand);
    Ended { status: this.job.ended, is_lost, is_interrupted }
}

impl Supervisor<'_> {
    fn handle(&mut self, signal: &Received) {
        match signal.means {
            Means::Child => self.look_at_children(),
            Means::Stop => {
                // A program that does not handle the signal would not stop either if nobody continued it.
                if !nobody_continues() {
                    self.suspend(false);
                }
            }
            Means::Continue => self.resume(),
            Means::Nothing | Means::End => {
                if signal.is_from_terminal && signal.number == Signal::INT.as_raw() {
                    self.ctrl_c = CtrlC::Arrived;
                }
                self.job.pass_on(signal.number);
            }
        }
    }

    fn look_at_children(&mut self) {
        for change in self.job.changes() {
            match change {
                Change::Ready => {
                    self.terminal.give(self.job.group());
                    self.job.resume();
                }
                Change::Stopped(signal) => self.follow(signal),
                Change::Ended(status) => {
                    self.find_ctrl_c(status);
                }
            }
        }
        self.is_over = self.job.is_over();
        if self.job.ended.is_some() && !self.is_over && self.kill_at.is_none() {
            // Others may get the key from here on.
            self.job.terminate();
            self.kill_at = Some(now() + self.keeper.kill_after());
        }
    }

    /// Finds out whether Ctrl-C has ended the command.
    fn find_ctrl_c(&mut self, status: WaitStatus) {
        let had_terminal = self.terminal.take();
        let has_arrived = had_terminal || self.ctrl_c == CtrlC::Arrived;
        if has_arrived && status.terminating_signal() == Some(Signal::INT.as_raw()) {
            self.ctrl_c = CtrlC::EndedCommand;
            if had_terminal && !nobody_continues() {
                // The others in the group of this program, such as a script, expect the key, too.
                let _ = kill_current_process_group(Signal::INT);
            }
        }
    }

    /// The command was stopped. If the terminal did that, this program stops, too, so that the shell notices.
    fn follow(&mut self, signal: i32) {
        match Signal::from_named_raw(signal) {
            Some(Signal::TTIN | Signal::TTOU) if self.terminal.want() => {
                self.terminal.give(self.job.group());
                self.job.resume();
            }
            Some(Signal::TSTP | Signal::TTIN | Signal::TTOU) if !self.is_suspended => {
                if !nobody_continues() {
                    self.suspend(true);
                } else if signal == Signal::TSTP.as_raw() {
                    self.job.resume();
                } else {
                    // As the system treats stopped processes that nobody can continue any more.
                    self.job.pass_on(Signal::HUP.as_raw());
                    self.job.resume();
                }
            }
            // Whoever sent SIGSTOP to the command continues it. The lease is renewed meanwhile.
            _ => {}
        }
    }

    /// Stops the processes of the command and then this program. While it is stopped, the lease is not renewed,
    /// so nothing may run.
    fn suspend(&mut self, whole_group: bool) {
        self.job.stop();
        self.terminal.take();
        self.is_suspended = true;
        if whole_group {
            // The terminal would have stopped the others in the group, such as a script, as well.
            let _ = kill_current_process_group(Signal::TSTP);
        }
        stop_this();
    }

    fn resume(&mut self) {
        let was_suspended = std::mem::take(&mut self.is_suspended);
        if was_suspended && !self.is_lost && self.keeper.term_at() <= now() {
            // The processes stay stopped; `lose` follows.
            return;
        }
        self.terminal.give(self.job.group());
        self.job.resume();
    }

    fn lose(&mut self, why: &str) {
        self.is_lost = true;
        let (now, latest) = (now(), self.keeper.kill_at());
        let kill_at = latest.min(now + self.keeper.kill_after());
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        let gets = if now < latest {
            self.job.terminate();
            "SIGTERM"
        } else {
            "SIGKILL"
        };
        report_at_once(&format!("error: the lease is lost: {why} The command gets {gets}."));
    }

    fn kill(&mut self) {
        let denied = self.job.kill();
        self.kill_at = Some(now() + KILL_AGAIN);
        if let Some(pid) = denied.filter(|_| self.denied.is_none()) {
            // It runs as another user.
            report_at_once(&format!(
                "error: process {pid} must end, and this program may not kill it: end it by hand."
            ));
        }
        self.denied = denied;
        // The command itself is waited for all the same.
        self.is_over = self.job.is_over() || self.job.ended.is_some() && denied.is_some();
    }
}
