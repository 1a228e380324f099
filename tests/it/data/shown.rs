//! What a server shows of its data directory: in metrics, and on a terminal while it reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use super::{Folder, kill, stop};
use crate::cli::{Started, binary, output_soon, request, start};

/// What a server says of its data directory: each of these metrics by its name without the prefix.
struct Shown(BTreeMap<String, String>);

impl Shown {
    fn by(address: &str) -> Self {
        let text = request(address, "GET", "/metrics");
        let own = text.lines().filter_map(|line| line.strip_prefix("token_orchestrator_"));
        let own = own.filter(|line| line.starts_with("journal_") || line.starts_with("snapshot"));
        let own = own.map(|line| line.rsplit_once(' ').unwrap());
        Self(own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn bytes(&self, name: &str) -> u64 {
        self.0[name].parse().unwrap()
    }
}

#[test]
fn metrics_tell_of_the_directory() {
    let mut command = binary();
    let (server, address, _) = start(command.args(["--listen", "127.0.0.1:0"]));
    assert_eq!(Shown::by(&address).0, BTreeMap::new());
    kill(server);
    let folder = Folder::new("metrics");
    let (server, address) = folder.serve(&[]);
    let before = Shown::by(&address).0;
    assert!(request(&address, "POST", "/keys").starts_with("HTTP/1.1 201"));
    let after = Shown::by(&address);
    let number = |of: &BTreeMap<String, String>, name: &str| of[name].parse::<f64>().unwrap();
    for (name, grows) in [
        ("journal_written_bytes_total", true),
        ("journal_commits_total", true),
        ("journal_commit_seconds_total", true),
        ("journal_bytes_since_snapshot", true),
        ("journal_has_room", false),
        ("snapshots_total{outcome=\"written\"}", false),
        ("snapshots_total{outcome=\"failed\"}", false),
        ("snapshot_bytes", false),
    ] {
        let has_grown = number(&after.0, name) > number(&before, name);
        assert_eq!(has_grown, grows, "{name}: {before:?}, {:?}", after.0);
    }
    assert_eq!(before.len(), 8, "{before:?}");
    assert_eq!(after.bytes("journal_has_room"), 1);
    // A frame with one record.
    let since = after.bytes("journal_bytes_since_snapshot");
    assert!(since >= 88, "{:?}", after.0);
    kill(server);
    // Each start begins a segment, and so many of them are a reason for a snapshot.
    for _ in 0..2 {
        let (server, address) = folder.serve(&[]);
        let found = Shown::by(&address);
        assert!(found.bytes("journal_bytes_since_snapshot") >= 88, "{:?}", found.0);
        assert_eq!(found.bytes("snapshot_bytes"), 0);
        kill(server);
    }
    kill(folder.serve(&[]).0);
    let (server, address) = folder.serve(&[]);
    let began = Instant::now();
    let found = loop {
        let found = Shown::by(&address);
        if found.bytes("snapshots_total{outcome=\"written\"}") > 0 {
            break found;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "no snapshot is counted: {:?}", found.0);
        sleep(Duration::from_millis(5));
    };
    let file = fs::metadata(folder.0.join("snapshot-000000000001")).unwrap();
    assert_eq!(found.bytes("snapshot_bytes"), file.len());
    let since = found.bytes("journal_bytes_since_snapshot");
    assert!(since <= found.bytes("journal_written_bytes_total"), "{:?}", found.0);
    kill(server);
}

/// What a program shows on a terminal, until it ends or has shown `last`.
fn on_a_terminal(arguments: &str, last: &str) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--command"]);
    command.arg(format!("exec \"$PROGRAM\" {arguments}")).arg("/dev/null");
    let program = binary();
    // What it does not get, either.
    program.get_envs().for_each(|(name, _)| _ = command.env_remove(name));
    command.env("PROGRAM", program.get_program()).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Started(command.spawn().unwrap());
    let mut output = child.stdout.take().unwrap();
    let (sender, receiver) = channel();
    spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut bytes) {
            if sender.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).is_err() {
                break;
            }
        }
    });
    let (mut shown, began) = (String::new(), Instant::now());
    while !shown.contains(last) {
        let left = Duration::from_mins(1).saturating_sub(began.elapsed());
        let next = receiver.recv_timeout(left);
        shown += &next.unwrap_or_else(|_| panic!("{last:?} is not shown: {shown:?}"));
    }
    // A server ends with its terminal.
    kill(child);
    shown
}

#[test]
fn a_terminal_shows_how_far_reading_has_come() {
    let folder = Folder::new("bar");
    let (server, address) = folder.serve(&[]);
    let values = folder.0.with_extension("values");
    // Enough that it is worth a line.
    let lines: Vec<_> = (0..3000).map(|n| format!("sk-{n:04000}")).collect();
    fs::write(&values, lines.join("\n")).unwrap();
    let mut import = binary();
    import.args(["import", values.to_str().unwrap()]);
    import.env("TOKEN_ORCHESTRATOR_SERVER", format!("http://{address}"));
    let imported = output_soon(&mut import);
    fs::remove_file(values).unwrap();
    assert!(imported.status.success(), "{imported:?}");
    stop(server);
    // A pipe is no terminal.
    let checked = folder.check(&[]);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    let (check, serve) = (
        format!("data check '{}'", folder.path()),
        format!("--listen 127.0.0.1:0 --data-dir '{}'", folder.path()),
    );
    for (arguments, last, next) in
        [(check, "is whole.", "pools "), (serve, "listening on http", "data directory: ")]
    {
        let shown = on_a_terminal(&arguments, last);
        let (before, _) = shown.split_once(next).unwrap_or_else(|| panic!("{shown:?}"));
        let (_, line) = before.rsplit_once("\rreading [").unwrap_or_else(|| panic!("{shown:?}"));
        // It is removed before anything else is written.
        let (line, rest) = line.split_once('\r').unwrap_or_else(|| panic!("{shown:?}"));
        assert!(line.contains(" %  ") && line.contains(" of ") && line.contains(" MiB"), "{line}");
        let (blank, _) = rest.split_once('\r').unwrap_or_else(|| panic!("{shown:?}"));
        assert!(blank.len() > line.len() && blank.trim().is_empty(), "{shown:?}");
    }
}
