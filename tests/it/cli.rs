//! The binary: its arguments, its words, its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-orchestrator"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_ORCHESTRATOR_")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn error_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "not one line: {text}");
    text
}

/// What a command says that ends soon. One that goes on, as a server that was to be refused, is killed.
pub(crate) fn output_soon(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let (ended, has_ended) = channel::<()>();
    let guard = thread::spawn(move || {
        if has_ended.recv_timeout(Duration::from_mins(1)) == Err(RecvTimeoutError::Timeout) {
            Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    guard.join().unwrap();
    assert!(output.status.code().is_some(), "it has not ended: {command:?}, {output:?}");
    output
}

/// A server that a test has started. A test that fails leaves none behind, which would hold its output open.
pub(crate) struct Started(pub(crate) Child);

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server; answers with it and the address it says it listens on.
pub(crate) fn start(
    command: &mut Command,
) -> (Started, String, impl Iterator<Item = String> + use<>) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Before that it may tell of its data directory, and that it has refused requests meanwhile.
    let is_last = |line: &String| line.contains("listening on http") || line.starts_with("error");
    let line = lines.find(is_last).expect("it listens");
    let (_, url) = line.split_once("listening on http").unwrap_or_else(|| panic!("{line}"));
    let (_, address) = url.split_once("://").unwrap();
    (Started(child), address.to_owned(), lines)
}

pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

pub(crate) fn request(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_wrong_value_ends_with_one_line_and_status_2() {
    for (arguments, named) in [
        (&["--lease-ttl", "0s"][..], "--lease-ttl"),
        (&["--key-ttl", "soon"], "--key-ttl"),
        (&["--shards", "3"], "--shards"),
        (&["--max-keys", "0"], "--max-keys"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--drain-timeout", "0s"], "--drain-timeout"),
        (&["--max-lease", "59s"], "--max-lease"),
        (&["--max-cooldown", "31d"], "--max-cooldown"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--listen", "0.0.0.0:0"], "--insecure-no-auth"),
        (&["--listen", "[::]:0"], "--insecure-no-auth"),
        (&["--admin-listen", "0.0.0.0:0"], "--insecure-no-auth"),
        (&["--drain-delay", "1"], "--drain-delay"),
        (&["--log-format", "xml"], "--log-format"),
        (&["token", "new"], "--role"),
        (&["token", "new", "--role", "root"], "client, admin or metrics"),
        (&["token", "new", "--role", "client", "--name", "a b"], "--name"),
        (&["token", "new", "--role", "client", "--pools", "a,B"], "--pools"),
        (&["token", "new", "--role", "client", "--pools", ""], "a pool is missing"),
        (&["serve", "--shards", "-1"], "-1"),
        (&["--unknown"], "--unknown"),
        (&["unknown"], "unknown"),
        (&["pool"], "`pool show openai`"),
    ] {
        let output = binary().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error_line(&output).contains(named), "{arguments:?}: {}", error_line(&output));
    }
}

/// The variables that the help of a command tells of.
fn variables(arguments: &[&str]) -> Vec<String> {
    let help = binary().args(arguments).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let named = help.split("[env: ").skip(1);
    named.map(|rest| rest.split(['=', ']']).next().unwrap().to_owned()).collect()
}

#[test]
fn a_wrong_value_in_the_environment_is_blamed_on_its_variable() {
    // Not even root can make a directory there.
    let nowhere = "/proc/nowhere/at all";
    let (of_server, of_client) = (variables(&["--help"]), variables(&["stats", "--help"]));
    // A command below a command.
    let of_pool = variables(&["pool", "show", "--help"]);
    assert!(of_server.len() >= 18 && of_client.len() >= 4 && of_pool.len() >= 3, "{of_pool:?}");
    for (variables, arguments) in [
        (&of_server, &["--listen", "127.0.0.1:0"][..]),
        (&of_server, &["serve", "--listen", "127.0.0.1:0"]),
        (&of_client, &["stats"]),
        (&of_pool, &["pool", "show", "a"]),
    ] {
        for variable in variables {
            let mut command = binary();
            command.args(if variable.ends_with("_LISTEN") { &[] } else { arguments });
            command.env(variable, nowhere);
            match variable.strip_prefix("TOKEN_ORCHESTRATOR_").unwrap() {
                "TLS_CERT" => drop(command.env("TOKEN_ORCHESTRATOR_TLS_KEY", "/key")),
                "TLS_KEY" => drop(command.env("TOKEN_ORCHESTRATOR_TLS_CERT", nowhere)),
                "CA_CERT" => drop(command.args(["--server", "https://localhost"])),
                _ => {}
            }
            let output = output_soon(&mut command);
            let line = error_line(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{variable}: {line}");
            assert!(line.contains(variable) && !line.contains("'--"), "{variable}: {line}");
        }
    }
}

#[test]
fn a_wrong_argument_is_not_blamed_on_the_environment() {
    for (variable, value, arguments, named, not_named) in [
        ("KEY_TTL", "soon", &["--key-ttl", "late"][..], "'--key-ttl <DURATION>'", "KEY_TTL"),
        ("KEY_TTL", "soon", &["--shards", "3"], "'--shards <NUMBER>'", "KEY_TTL"),
        ("KEY_TTL", "5m", &["--key-ttl", "late"], "'--key-ttl <DURATION>'", "KEY_TTL"),
        ("LEASE_TTL", "2m", &["--max-lease", "1m"], "--max-lease must", "MAX_LEASE"),
        (
            "LEASE_TTL",
            "2m",
            &["--max-lease", "1m"],
            "than TOKEN_ORCHESTRATOR_LEASE_TTL",
            "--lease-ttl",
        ),
        ("MAX_LEASE", "1m", &["--lease-ttl", "2m"], "ORCHESTRATOR_MAX_LEASE must", "LEASE_TTL"),
        ("LISTEN", "0.0.0.0:1", &[], "ORCHESTRATOR_LISTEN: other machines can reach", "--listen"),
        ("TLS_CERT", "x", &[], "TOKEN_ORCHESTRATOR_TLS_CERT needs --tls-key", "--tls-cert"),
    ] {
        let mut command = binary();
        command.env(format!("TOKEN_ORCHESTRATOR_{variable}"), value).args(arguments);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let line = error_line(&output);
        assert!(line.contains(named) && !line.contains(not_named), "{arguments:?}: {line}");
    }
}

#[test]
fn what_is_no_switch_or_no_text_is_refused_in_words() {
    let switch = "TOKEN_ORCHESTRATOR_INSECURE_NO_AUTH";
    let output = binary().env(switch, "maybe").output().unwrap();
    assert!(error_line(&output).contains(&format!("{switch}: must be true or false")));
    let bytes = OsStr::from_bytes(b"\xff");
    let output = binary().env("TOKEN_ORCHESTRATOR_SHARDS", bytes).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error_line(&output).contains("TOKEN_ORCHESTRATOR_SHARDS is not valid UTF-8"));
    for arguments in [&[bytes][..], &[OsStr::new("--shards"), bytes]] {
        let output = binary().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!error_line(&output).contains("panicked"), "{output:?}");
    }
}

#[test]
fn a_taken_port_ends_with_one_line_that_names_it_and_its_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = &taken.local_addr().unwrap().to_string();
    let free = ["--listen", "127.0.0.1:0"];
    for (arguments, variable, named) in [
        (&["--listen", address][..], None, "--listen"),
        (&[&free[..], &["--admin-listen", address]].concat(), None, "--admin-listen"),
        (&[], Some("TOKEN_ORCHESTRATOR_LISTEN"), "TOKEN_ORCHESTRATOR_LISTEN"),
        (&["serve"], Some("TOKEN_ORCHESTRATOR_LISTEN"), "TOKEN_ORCHESTRATOR_LISTEN"),
        (&free, Some("TOKEN_ORCHESTRATOR_ADMIN_LISTEN"), "TOKEN_ORCHESTRATOR_ADMIN_LISTEN"),
    ] {
        let mut command = binary();
        command.args(arguments).envs(variable.map(|variable| (variable, address)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line = error_line(&output);
        let expected = format!("error: {named}: cannot listen on {address}: ");
        assert!(line.starts_with(&expected) && line.contains("another port"), "{line}");
    }
}

#[test]
fn localhost_is_an_address_to_listen_on() {
    let (mut child, address, _) = start(binary().args(["--listen", "localhost:0"]));
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(request(&address, "GET", "/healthz").contains(" 200 "));
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for option in ["--listen", "--admin-listen"] {
        for text in [":8080", "8080"] {
            let output = binary().args([option, text]).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            let line = error_line(&output);
            let examples = [option, " 127.0.0.1:8080 ", " 0.0.0.0:8080 "];
            assert!(examples.iter().all(|example| line.contains(example)), "{line}");
        }
    }
}

#[test]
fn help_and_version_are_told() {
    let help = binary().arg("--help").output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for option in ["--listen", "--key-ttl", "--lease-ttl", "--max-keys", "--shards", "serve"] {
        assert!(help.contains(option), "{option}");
    }
    let version = binary().arg("--version").output().unwrap();
    let expected = format!("token-orchestrator {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
}

#[test]
fn it_serves_until_it_is_told_to_end() {
    for (name, arguments) in [("TERM", &["serve", "--listen", "127.0.0.1:0"][..]), ("INT", &[])] {
        let mut command = binary();
        command.args(arguments).env("TOKEN_ORCHESTRATOR_LISTEN", "127.0.0.1:0");
        let (mut child, address, _) = start(&mut command);
        assert!(request(&address, "POST", "/keys").starts_with("HTTP/1.1 201 Created\r\n"));
        assert!(request(&address, "GET", "/keys").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(request(&address, "GET", "/keys").starts_with("HTTP/1.1 404 Not Found\r\n"));
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(0), "SIG{name}");
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    for arguments in [&["--listen", "127.0.0.1:0"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let mut command = binary();
        command.args(arguments);
        for name in ["LISTEN", "KEY_TTL", "MAX_KEYS", "AUTH_TOKENS", "INSECURE_NO_AUTH", "TLS_CERT"]
        {
            command.env(format!("TOKEN_ORCHESTRATOR_{name}"), "");
        }
        let (mut child, address, _) = start(&mut command);
        assert!(request(&address, "POST", "/keys").contains(" 201 "));
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// A reader of standard error that has stopped reading, with far more lines than fit into its pipe.
#[test]
fn a_full_pipe_neither_stops_the_server_nor_keeps_it_from_its_end() {
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0"]).env("RUST_LOG", "debug");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    while !first.contains("listening on ") {
        first.clear();
        lines.read_line(&mut first).unwrap();
    }
    let address = first.trim_end().rsplit("//").next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..50 {
        stream
            .write_all(b"GET /keys HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100).as_slice())
            .unwrap();
        let (mut answers, mut buffer) = (String::new(), vec![0; 1 << 16]);
        while answers.matches("HTTP/1.1 404").count() < 100 {
            let length = stream.read(&mut buffer).expect("it still answers");
            answers.push_str(str::from_utf8(&buffer[..length]).unwrap());
        }
    }
    let metrics = request(address, "GET", "/metrics");
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("token_orchestrator_log_lines_dropped_total "));
    assert!(dropped.unwrap().parse::<f64>().unwrap() > 1000.0, "{dropped:?}");
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("panicked"), "{rest}");
}

#[test]
fn arguments_and_environment_shape_the_pool() {
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0", "--max-keys", "1", "--shards", "2"]);
    command.env("TOKEN_ORCHESTRATOR_KEY_TTL", "1ms").env("TOKEN_ORCHESTRATOR_MAX_KEYS", "7");
    let (mut child, address, _) = start(&mut command);
    let created = request(&address, "POST", "/keys");
    let (_, id) = created.split_once("/keys/").unwrap();
    // A key dies after a millisecond, and then there is room for the next.
    while !request(&address, "GET", &format!("/keys/{}", &id[..36])).contains(" 404 ") {}
    assert!(request(&address, "POST", "/keys").contains(" 201 "));
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A request whose body does not come is in flight for as long as it may be.
#[test]
fn the_end_waits_no_longer_than_it_was_told() {
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0", "--drain-timeout", "1ms", "--max-connections", "1"]);
    let (mut child, address, mut lines) = start(&mut command);
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = "POST /keys HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    // It is not accepted before the other has gone, which it never does.
    let _second = TcpStream::connect(&address).unwrap();
    signal(&child, "TERM");
    assert!(lines.any(|line| line.contains("still in flight after 1ms")));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn likely_mistakes_are_told_with_the_way_out() {
    let told = |arguments: &[&str]| {
        let output = binary().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        error_line(&output)
    };
    assert!(told(&["run", "echo", "hi"]).contains("put -- before the command"));
    let tip = told(&["star"]);
    assert!(tip.contains("stats") && !tip.contains("become"), "{tip}");
    let address = "127.0.0.1:18081";
    let same = told(&["--listen", address, "--admin-listen", address]);
    assert!(same.contains("--listen and --admin-listen must be different addresses"), "{same}");
}
