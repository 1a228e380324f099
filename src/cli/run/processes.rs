//! The processes of the machine, as /proc shows them.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// A process that this one can name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Process {
    /// Its number where signals are sent from, which is the namespace of this process.
    pub(super) pid: Pid,
    /// The number of its group there, 0 if the group has none there.
    pub(super) group: i32,
    /// The number of its session there, 0 if the session has none there.
    session: i32,
    /// Whether it is stopped.
    pub(super) is_stopped: bool,
    /// Whether it has ended and only its parent was not told yet.
    is_zombie: bool,
    /// Its own number in /proc and that of its parent. They can differ from `pid`: /proc may have been
    /// mounted in another namespace.
    own: u32,
    parent: u32,
}

/// The processes at one moment, more or less: what starts or ends meanwhile may be missing.
pub(super) struct Processes {
    all: HashMap<u32, Process>,
    /// This process.
    this: u32,
}

impl Processes {
    /// Looks at all processes. O(processes of the machine). Without /proc there are none.
    pub(super) fn now() -> Self {
        let link = fs::read_link("/proc/self").unwrap_or_default();
        let this = link.to_str().and_then(|name| name.parse().ok()).unwrap_or(0);
        let level = level(&own_status());
        let names = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let read = |own| {
            let status = fs::read_to_string(format!("/proc/{own}/status")).ok()?;
            Some((own, parse(&status, own, level)?))
        };
        Self { all: numbers.filter_map(read).collect(), this }
    }

    /// Descendants of this process that have not ended, but neither those that are named in `but` nor theirs.
    /// O(processes).
    pub(super) fn descendants(&self, but: &HashSet<Pid>) -> Vec<Process> {
        let mut children: HashMap<u32, Vec<&Process>> = HashMap::new();
        for process in self.all.values() {
            children.entry(process.parent).or_default().push(process);
        }
        let (mut found, mut parents) = (Vec::new(), vec![self.this]);
        while let Some(parent) = parents.pop() {
            // Removed, so that each is found once, even if numbers were used again while /proc was read.
            let children = children.remove(&parent).unwrap_or_default();
            for child in children.into_iter().filter(|child| !but.contains(&child.pid)) {
                parents.push(child.own);
                found.extend((!child.is_zombie).then_some(*child));
            }
        }
        found
    }

    /// Whether nobody would continue this process if it stopped: no shell with job control watches its group.
    /// The system does not let a terminal stop such a group. O(processes).
    fn is_orphaned(&self) -> bool {
        let Some(this) = self.all.get(&self.this) else { return true };
        let is_watched = |member: &Process| {
            let parent = self.all.get(&member.parent);
            parent.is_some_and(|by| by.session == this.session && by.group != this.group)
        };
        let mut members = self.all.values().filter(|process| process.group == this.group);
        !members.any(is_watched)
    }
}

/// The group of this process, if it has a number here. O(1).
pub(super) fn own_group() -> Option<Pid> {
    let status = own_status();
    Pid::from_raw(parse(&status, 0, level(&status))?.group)
}

fn own_status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// How many namespaces lie between that of /proc and that of the process with this status.
fn level(status: &str) -> usize {
    field(status, "NSpid:").count().saturating_sub(1)
}

/// Whether nobody would continue this process if it stopped. O(processes of the machine).
pub(super) fn nobody_continues() -> bool {
    Processes::now().is_orphaned()
}

/// Stops this process until it is continued. O(1).
pub(super) fn stop_this() {
    let _ = kill_process(getpid(), Signal::STOP);
}

fn field<'a>(status: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().split_whitespace()
}

/// Reads `/proc/N/status`. `level` is how many namespaces lie between that of /proc and the one to number in.
fn parse(status: &str, own: u32, level: usize) -> Option<Process> {
    let number = |name| field(status, name).nth(level)?.parse().ok();
    let state = field(status, "State:").next()?;
    Some(Process {
        pid: Pid::from_raw(number("NSpid:")?)?,
        group: number("NSpgid:")?,
        session: number("NSsid:")?,
        is_stopped: matches!(state, "T" | "t"),
        is_zombie: matches!(state, "Z" | "X"),
        own,
        parent: field(status, "PPid:").next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn process(own: u32, parent: u32, group: i32, state: &str) -> Process {
        let status = format!(
            "Name:\tx\nState:\t{state} (…)\nPPid:\t{parent}\nNSpid:\t{own}\t{}\nNSpgid:\t{group}\t{group}\n\
             NSsid:\t7\t7\n",
            own + 1000
        );
        parse(&status, own, 1).unwrap()
    }

    #[test]
    fn a_process_is_read_as_its_namespace_numbers_it() {
        let read = process(40, 30, 5, "T");
        assert_eq!((read.pid, read.own, read.parent), (pid(1040), 40, 30));
        assert!(read.is_stopped && !read.is_zombie);
        assert_eq!((read.group, read.session), (5, 7));
        assert!(parse("Name:\tx\n", 1, 0).is_none());
    }

    #[test]
    fn descendants_are_found_whoever_is_between() {
        // 10 is this process; 20 has ended, and its child 21 has not; 30 was there before.
        let all = [
            (10, 1, "S"),
            (20, 10, "Z"),
            (21, 20, "R"),
            (30, 10, "S"),
            (31, 30, "S"),
            (40, 1, "S"),
        ];
        let all = all.map(|(own, parent, state)| (own, process(own, parent, 10, state)));
        let processes = Processes { all: all.into(), this: 10 };
        let numbers = |but: &[i32]| {
            let but = but.iter().map(|number| pid(*number)).collect();
            let found = processes.descendants(&but).into_iter();
            found.map(|process| process.own).collect::<HashSet<_>>()
        };
        assert_eq!(numbers(&[1030]), HashSet::from([21]));
        assert_eq!(numbers(&[]), HashSet::from([21, 30, 31]));
    }

    #[test]
    fn a_group_is_watched_by_a_parent_beside_it() {
        let is_orphaned = |group_of_parent, parents: [u32; 2]| {
            let all = [
                (5, process(5, 1, group_of_parent, "S")),
                (10, process(10, parents[0], 10, "S")),
                (11, process(11, parents[1], 10, "S")),
            ];
            Processes { all: all.into(), this: 11 }.is_orphaned()
        };
        // As a script of an interactive shell: 5 is the shell, 10 the script, 11 this process.
        assert!(!is_orphaned(5, [5, 10]));
        assert!(is_orphaned(10, [5, 10]));
        assert!(is_orphaned(5, [1, 10]));
    }
}
