//! Metrics of the process, by the names that are usual for them.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::text::{Family, Kind, Text, families};

families! {
    "process_";
    /// Total user and system CPU time spent in seconds.
    CPU: Counter = "cpu_seconds_total";
    /// Number of open file descriptors.
    OPEN_FILES: Gauge = "open_fds";
    /// Maximum number of open file descriptors.
    FILES_MAX: Gauge = "max_fds";
    /// Virtual memory size in bytes.
    VIRTUAL: Gauge = "virtual_memory_bytes";
    /// Resident memory size in bytes.
    RESIDENT: Gauge = "resident_memory_bytes";
    /// Start time of the process since unix epoch in seconds.
    STARTED: Gauge = "start_time_seconds";
    /// Number of OS threads in the process.
    THREADS: Gauge = "threads";
}

/// Writes the metrics of the process, except those that the system does not provide.
pub(super) fn write(text: &mut Text) {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
    if let Some(stat) = &stat {
        text.one(&CPU, stat.cpu_s);
    }
    if let Some(files) = open_files() {
        text.one(&OPEN_FILES, files);
    }
    if let Some(files) = getrlimit(Resource::Nofile).current {
        text.one(&FILES_MAX, files);
    }
    if let Some(stat) = stat {
        text.one(&VIRTUAL, stat.virtual_bytes);
        text.one(&RESIDENT, stat.resident_bytes);
        if let Some(booted_s) = booted_s() {
            text.one(&STARTED, booted_s + stat.started_s);
        }
        text.one(&THREADS, stat.threads);
    }
}

/// The fields of `/proc/PID/stat` that are shown.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_s: f64,
    threads: u64,
    /// Since the system was booted.
    started_s: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name before the parenthesis is whatever somebody called the program.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        // As proc_pid_stat(5) counts them: the first after the name is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks_a_second = clock_ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "no process runs for so long")]
        let cpu_s = (field(14)? + field(15)?) as f64 / ticks_a_second as f64;
        Some(Self {
            cpu_s,
            threads: field(20)?,
            started_s: field(22)? / ticks_a_second,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_size() as u64,
        })
    }
}

/// How many files are open. O(1), or O(n) for n files before Linux 6.2.
fn open_files() -> Option<u64> {
    const FILES: &str = "/proc/self/fd";
    match fs::metadata(FILES).ok()?.len() {
        // The directory is one of them while it is read.
        0 => Some((fs::read_dir(FILES).ok()?.count() as u64).saturating_sub(1)),
        files => Some(files),
    }
}

/// When the system was booted, in seconds of Unix time.
fn booted_s() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_anything() {
        let numbers: Vec<_> = (4..=52).map(|number| number.to_string()).collect();
        let parse = |name: &str| Stat::parse(&format!("1 ({name}) S {}\n", numbers.join(" ")));
        let stat = parse("name").unwrap();
        assert_eq!((stat.threads, stat.virtual_bytes), (20, 23));
        assert_eq!(stat.resident_bytes, 24 * page_size() as u64);
        for name in ["two words", ") R 1 2 3 (", ""] {
            assert_eq!(parse(name).as_ref(), Some(&stat), "{name}");
        }
        assert_eq!(Stat::parse("1 (short) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn all_metrics_of_this_process_are_written() {
        let mut text = Text::with_capacity(0);
        write(&mut text);
        let text = String::from_utf8(text.into_bytes()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_threads") >= 1.0);
    }
}
