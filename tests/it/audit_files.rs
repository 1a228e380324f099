//! Where the lines of the audit log go: a file that is moved away, a full disk, a reader that has stopped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{binary, error_line, request, signal, start};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("token-orchestrator-audit-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn server(log: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0", "--audit-log"]).arg(log);
    command
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    // Lines are written whole.
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sends `count` leases at once, and reads their answers.
fn lease(address: &str, count: usize) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let requests = "GET /keys HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(count);
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(requests.as_bytes()).unwrap());
    let (mut answered, mut answers) = (0, BufReader::new(stream));
    let mut line = String::new();
    while answered < count {
        line.clear();
        assert!(answers.read_line(&mut line).expect("it still answers") > 0, "it hung up");
        answered += usize::from(line.contains("HTTP/1.1 404 "));
    }
    writing.join().unwrap();
}

/// How many lines of the audit log were lost, as the metrics say.
fn lost(address: &str) -> u64 {
    let metrics = request(address, "GET", "/metrics");
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix("token_orchestrator_audit_lines_dropped_total "));
    value.unwrap().parse().unwrap()
}

/// Whatever was answered is in the file when the server has ended, behind what was there before.
#[test]
fn at_the_end_nothing_that_was_answered_is_missing() {
    let folder = Folder::new("end");
    let path = folder.path("audit.log");
    for round in 1..=2 {
        let (mut child, address, _) = start(&mut server(&path));
        // Less than may wait, however slow the disk is.
        lease(&address, 10_000);
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(lines(&path).len(), round * 10_000);
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn sighup_opens_the_file_again() {
    let folder = Folder::new("rotate");
    let (path, old) = (folder.path("audit.log"), folder.path("audit.log.1"));
    let (mut child, address, mut log) = start(&mut server(&path));
    lease(&address, 1);
    fs::rename(&path, &old).unwrap();
    // The server has still the old file. A line may be written after its answer, then also to the next file.
    lease(&address, 1);
    while lines(&old).len() < 2 {
        std::thread::yield_now();
    }
    signal(&child, "HUP");
    assert!(log.any(|line| line.contains("SIGHUP: opened the audit log again")));
    lease(&address, 3);
    // If it cannot be opened, lines go where they went before.
    let moved = folder.path("audit.log.0");
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    signal(&child, "HUP");
    let kept = "SIGHUP: kept the previous file of the audit log: cannot use ";
    assert!(log.any(|line| line.contains(kept)));
    lease(&address, 1);
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!((lines(&moved).len(), lines(&old).len()), (4, 2));
}

#[test]
fn a_full_disk_stops_nothing_and_each_lost_line_is_counted() {
    let (mut child, address, _) = start(&mut server("/dev/full"));
    lease(&address, 100);
    while lost(&address) < 100 {
        std::thread::yield_now();
    }
    assert_eq!(lost(&address), 100);
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A reader that has stopped costs lines. Once it reads again it is told how many.
#[test]
fn a_full_pipe_stops_nothing_and_tells_of_the_lost_lines() {
    let mut child = server("stderr").stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    let address = first.trim_end().rsplit("//").next().unwrap();
    let count = 30_000;
    lease(address, count);
    let dropped = lost(address);
    assert!(dropped > 1000, "{dropped}");
    let reading = std::thread::spawn(move || {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        rest
    });
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let rest = reading.join().unwrap();
    let lines = rest.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> = lines.collect();
    let told: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    let written = lines.iter().filter(|line| line["status"] == 404).count();
    assert_eq!((told, written), (dropped, count - usize::try_from(dropped).unwrap()));
}

#[test]
fn a_file_that_cannot_be_used_ends_the_start_with_one_line_that_names_it() {
    let folder = Folder::new("unusable");
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, what) in [
        (folder.path("missing/audit.log"), "No such file or directory"),
        (folder.0.clone(), "Is a directory"),
        (pipe, "nobody reads this pipe; start its reader first"),
    ] {
        let output = server(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line = error_line(&output);
        let expected = format!("error: --audit-log: cannot use {}: {what}", path.display());
        assert!(line.starts_with(&expected), "{line}");
    }
}
