//! The terminal, and which process group it listens to.

use std::fs::File;
use std::io::{IsTerminal, stdin, stdout};

use rustix::process::Pid;
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The controlling terminal of this program, if it has one.
///
/// The command runs in a process group of its own. A terminal sends its keys, such as Ctrl-C, to one group
/// at a time, the one in the foreground, and lets no other read.
pub(super) struct Terminal {
    /// The terminal and the group of this program.
    tty: Option<(File, Pid)>,
    /// Whether the command should have the terminal whenever this program could have it.
    is_wanted: bool,
    is_given: bool,
}

impl Terminal {
    /// Looks for a terminal; `own_group` is the group of this program.
    ///
    /// The command gets it from the beginning if it reads from it and writes to it. As a part of a pipeline,
    /// it gets it when it asks for it: until then the other parts can use it, such as a pager.
    pub(super) fn new(own_group: Option<Pid>) -> Self {
        let tty = File::options().read(true).write(true).open("/dev/tty").ok();
        let is_wanted = stdin().is_terminal() && stdout().is_terminal();
        Self { tty: tty.zip(own_group), is_wanted, is_given: false }
    }

    /// The command asks for the terminal. Returns whether this program could give it.
    pub(super) fn want(&mut self) -> bool {
        let is_ours = matches!(&self.tty, Some((tty, own)) if tcgetpgrp(tty) == Ok(*own));
        self.is_wanted |= is_ours;
        is_ours
    }

    /// Gives the terminal to the command's group, if it should have it and this program has it.
    pub(super) fn give(&mut self, group: Pid) {
        if let Some((tty, own)) = &self.tty
            && self.is_wanted
            && tcgetpgrp(tty) == Ok(*own)
        {
            self.is_given = tcsetpgrp(tty, group).is_ok();
        }
    }

    /// Takes the terminal back, if it was given. Returns whether it was.
    ///
    /// SIGTTOU would stop this program here if it were not blocked.
    pub(super) fn take(&mut self) -> bool {
        let was_given = std::mem::take(&mut self.is_given);
        if let Some((tty, own)) = self.tty.as_ref().filter(|_| was_given) {
            // It fails if the terminal is gone.
            let _ = tcsetpgrp(tty, *own);
        }
        was_given
    }
}
