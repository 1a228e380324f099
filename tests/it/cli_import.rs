//! `import`, against the server: what it counts, what it names, and that it shows no value.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::cli::{binary, error_line, request};
use crate::commands::Server;

/// What a command does that reads this input.
pub(crate) fn fed(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // Where it fails, it reads no further.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// `import` from standard input.
pub(crate) fn import(server: &Server, arguments: &[&str], input: &[u8]) -> Output {
    fed(server.command(&[&["import", "-"], arguments].concat()), input)
}

/// The status, and what was written to standard output and standard error. No value is in either; those of the tests
/// begin with `s3cret`.
fn told(output: &Output) -> (i32, String, Vec<String>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (printed, told) = (text(&output.stdout), text(&output.stderr));
    assert!(!printed.contains("s3cret") && !told.contains("s3cret"), "{printed}{told}");
    let status = output.status.code().unwrap();
    (status, printed.trim_end().to_owned(), told.lines().map(str::to_owned).collect())
}

/// So many lines of equal length, each with another value.
fn numbered(count: usize) -> String {
    (0..count).fold(String::new(), |lines, n| lines + &format!("s3cret-{n:04}\n"))
}

/// A file that goes with its test.
struct TextFile(PathBuf);

impl TextFile {
    fn new(name: &str, text: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("import-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The values that leases of all keys give, sorted.
fn values(server: &Server, pool: &str) -> Vec<String> {
    let leased = server.json(&["lease", "--pool", pool, "--count", "100000"]);
    let keys = leased["keys"].as_array().unwrap().iter();
    let mut values = keys.map(|key| key["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    values.sort_unstable();
    values
}

#[test]
fn each_line_is_a_key_and_each_value_is_there_once() {
    let server = Server::new(&[]);
    server.ask(&["pool", "set", "p"]);
    let lines = "s3cret-1\r\n\n s3cret 2 \n{\"value\":\"s3cret-3\\n\",\"labels\":{\"plan\":\"pro\"}}\ns3cret-1";
    let file = TextFile::new("values", lines.as_bytes());
    let import = ["import", "--pool", "p", file.path()];
    assert_eq!(server.ask(&import), "3 new, 1 in the pool already, 0 refused");
    assert_eq!(server.json(&import), json!({"created": 0, "known": 4, "refused": 0}));
    assert_eq!(values(&server, "p"), ["s3cret 2", "s3cret-1", "s3cret-3\n"]);
    // The other pools know nothing of it.
    assert_eq!(server.json(&["stats"])["keys"], 0);
    let output = self::import(&server, &[], lines.as_bytes());
    assert_eq!(told(&output).1, "3 new, 1 in the pool already, 0 refused");
    let nothing = self::import(&server, &[], b"\n\r\n\n");
    assert_eq!(told(&nothing), (0, "0 new, 0 in the pool already, 0 refused".to_owned(), vec![]));
}

#[test]
fn labels_of_the_command_are_those_of_all_keys() {
    let server = Server::new(&[]);
    let labels = ["--label", "plan:pro", "--label", "at:eu:west"];
    let lines = "{\"value\":\"s3cret-1\",\"labels\":{\"plan\":\"free\",\"n\":\"1\"}}\ns3cret-2\n";
    assert!(import(&server, &labels, lines.as_bytes()).status.success());
    for (label, count) in [("at:eu:west", 2), ("plan:pro", 1), ("plan:free", 1), ("n:1", 1)] {
        let listed = server.ask(&["list", "--label", label, "--json"]);
        assert_eq!(listed.lines().count(), count, "{label}: {listed}");
    }
    let output = import(&server, &["--label", "a:1", "--label", "a:2"], b"s3cret-3\n");
    let (status, _, lines) = told(&output);
    assert_eq!((status, lines[0].contains("--label names a twice")), (1, true), "{lines:?}");
    assert_eq!(server.json(&["stats"])["keys"], 2);
}

#[test]
fn what_is_refused_is_named_by_its_line_and_the_rest_is_imported() {
    let server = Server::new(&[]);
    let long = "s3cret".repeat(700);
    let longer = "s3cret".repeat(20_000);
    let lines = [
        b"s3cret-1",
        &b"{\"value\":\"s3cret-2\""[..],
        long.as_bytes(),
        b"s3cret-\xff",
        b"s3cret-5",
        b"",
        b"{\"value\":\"s3cret-7\",\"s3cret\":1}",
        longer.as_bytes(),
        b"{\"value\":\"\"}",
        b"{\"value\":\"s3cret-10\",\"labels\":{\"s3cret:\":\"1\"}}",
        b"s3cret-11",
    ];
    let input = lines.join(&b'\n');
    let (status, printed, lines) = told(&import(&server, &[], &input));
    assert_eq!((status, &*printed), (1, "3 new, 0 in the pool already, 7 refused"));
    let expected = [
        "error: line 2: it begins with { but is not valid JSON: see column 19.",
        "error: line 3: its value must have 1 to 4096 characters.",
        "error: line 4: it is not in UTF-8.",
        "error: line 7: its fields may be value and labels only; a key looks like \
         {\"value\":\"sk-1\",\"labels\":{\"plan\":\"pro\"}}.",
        "error: line 8: it is longer than any key: a value has 1 to 4096 characters.",
        "error: line 9: its value must have 1 to 4096 characters.",
        "error: line 10: the names and the values of its labels must have 1 to 63 characters each, and the names no \
         colon.",
    ];
    assert_eq!(lines, expected);
    let (status, printed, lines) = told(&import(&server, &["--json"], &input));
    assert_eq!((status, &*printed), (1, "{\"created\":0,\"known\":3,\"refused\":7}"));
    let refused: Value = serde_json::from_str(&lines[0]).unwrap();
    let detail = "it begins with { but is not valid JSON: see column 19";
    assert_eq!(refused, json!({"line": 2, "detail": detail}));
    assert_eq!(lines.len(), 7);
    assert_eq!(values(&server, "default"), ["s3cret-1", "s3cret-11", "s3cret-5"]);
}

/// How many imports of the pool default the server has answered with 201.
fn requests(server: &Server) -> u64 {
    let name =
        "token_orchestrator_http_requests_total{method=\"POST\",route=\"/keys\",status=\"201\"} ";
    let address = server.url.trim_start_matches("http://").trim_end_matches('/');
    let metrics = request(address, "GET", "/metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

#[test]
fn a_long_file_goes_in_requests_that_the_server_takes() {
    let server = Server::new(&[]);
    let mut lines = numbered(2500);
    // Known in another request than the one that makes it new.
    lines += "s3cret-0000\ns3cret-2499\n";
    let (status, printed, _) = told(&import(&server, &[], lines.as_bytes()));
    assert_eq!((status, &*printed), (0, "2,500 new, 2 in the pool already, 0 refused"));
    assert_eq!(requests(&server), 3);
    // Ten times what a request may have.
    let value = |n: usize| format!("s3cret{n:04}{}", "\u{1}".repeat(4096 - 10));
    let lines = (0..1000).map(|n| value(n) + "\n").collect::<String>();
    let (status, printed, lines) = told(&import(&server, &[], lines.as_bytes()));
    assert_eq!((status, &*printed), (0, "1,000 new, 0 in the pool already, 0 refused"));
    assert_eq!((lines.len(), server.json(&["stats"])["keys"].as_u64()), (0, Some(3500)));
}

#[test]
fn an_import_that_cannot_go_on_tells_how_far_it_came() {
    let server = Server::new(&["--max-keys", "1500"]);
    let lines = numbered(2500);
    let (status, printed, lines_told) = told(&import(&server, &[], lines.as_bytes()));
    assert_eq!(status, 1);
    assert!(
        printed.starts_with(
            "1,000 new, 0 in the pool already, 0 refused; stopped at line 1001: import "
        )
    );
    assert_eq!(lines_told.len(), 1);
    assert!(lines_told[0].starts_with("error: The pool is full. "), "{lines_told:?}");
    let (_, printed, lines_told) = told(&import(&server, &["--json"], lines.as_bytes()));
    assert_eq!(printed, r#"{"created":0,"known":1000,"refused":0,"stoppedAt":1001}"#);
    let problem: Value = serde_json::from_str(&lines_told[0]).unwrap();
    assert_eq!(problem["type"], "/problems/pool-full");
    // Where nothing came before the failure, it says all.
    for (arguments, says) in [
        (&["--pool", "q"][..], "error: no such pool: q. `pools` lists all, and "),
        (&["--server", "http://127.0.0.1:1"], "error: no answer from http://127.0.0.1:1/: "),
    ] {
        let (status, printed, lines) = told(&import(&server, arguments, b"s3cret\n"));
        assert_eq!((status, &*printed, lines.len()), (1, "", 1));
        assert!(lines[0].starts_with(says), "{lines:?}");
    }
    for (file, says) in [("/no/such/file", "No such file"), ("/", "Is a directory")] {
        let line = server.refusal(&["import", file]);
        assert!(line.starts_with(&format!("error: cannot use {file}: {says}")), "{line}");
    }
    let output = server.command(&["import"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error_line(&output).contains("<FILE>"), "{output:?}");
}

/// A server that gives these answers, one after another, and tells the bodies that it was sent.
fn answers(answers: Vec<(u16, &'static str, String)>) -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let answer = |(status, fields, body): (u16, &str, String)| {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = read_body(&mut stream);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}"
            );
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
            asked
        };
        answers.into_iter().map(answer).collect()
    });
    (url, asked)
}

fn read_body(stream: &mut TcpStream) -> Value {
    let mut asked = Vec::new();
    let mut some = [0; 4096];
    loop {
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "the request has an end");
        asked.extend(&some[..length]);
        let text = String::from_utf8_lossy(&asked);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return body;
        }
    }
}

/// A server of another version may refuse what this one does not.
#[test]
fn what_the_server_refuses_is_left_out_and_sent_no_more() {
    let refused = |place: u32| {
        let what = format!("keys[{place}] is invalid: its value\nis odd");
        let detail = format!("Nothing was imported, because {what}.");
        (
            422,
            "",
            json!({"type": "/problems/invalid-key", "title": "T", "detail": detail}).to_string(),
        )
    };
    let done = (201, "Keys-Created: 1\r\n", "{\"keyIds\":[]}".to_owned());
    let command = |url: &str| {
        let mut command = binary();
        command.args(["import", "-", "--server", url]);
        command
    };
    let (url, asked) = answers(vec![refused(3), refused(0), done]);
    let lines = b"s3cret-1\n{\ns3cret-3\n\ns3cret-5\ns3cret-6\n";
    let (status, printed, lines_told) = told(&fed(command(&url), lines));
    assert_eq!((status, &*printed), (1, "1 new, 1 in the pool already, 3 refused"));
    assert_eq!(
        lines_told,
        [
            "error: line 1: its value is odd.",
            "error: line 2: it begins with { but is not valid JSON: see column 1.",
            "error: line 6: its value is odd.",
        ]
    );
    let sent = |body: &Value| {
        let keys = body["keys"].as_array().unwrap().iter();
        keys.map(|key| key["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let asked = asked.join().unwrap().iter().map(sent).collect::<Vec<_>>();
    assert_eq!(
        asked,
        ["s3cret-1 s3cret-3 s3cret-5 s3cret-6", "s3cret-1 s3cret-3 s3cret-5", "s3cret-3 s3cret-5"]
    );
    // Nothing is left to send.
    let (url, asked) = answers(vec![refused(0)]);
    let (status, printed, _) = told(&fed(command(&url), b"s3cret-1\n"));
    assert_eq!((status, &*printed), (1, "0 new, 0 in the pool already, 1 refused"));
    assert_eq!(asked.join().unwrap().len(), 1);
    // One that names no key of the request would do so for ever.
    let (url, _) = answers(vec![refused(1)]);
    let (status, printed, lines_told) = told(&fed(command(&url), b"s3cret-1\n"));
    assert_eq!((status, &*printed), (1, ""));
    assert!(
        lines_told[0].starts_with("error: T. Nothing was imported, because "),
        "{lines_told:?}"
    );
    // And what is no answer to an import counts as none.
    let (url, _) = answers(vec![(200, "", "{}".to_owned())]);
    let (status, _, lines_told) = told(&fed(command(&url), b"s3cret-1\n"));
    assert_eq!((status, lines_told[0].contains("how many keys are new")), (1, true));
}

/// As a terminal shows it: from its last carriage return on.
#[test]
fn a_terminal_shows_a_bar_while_the_file_is_read() {
    let server = Server::new(&[]);
    let mut lines = numbered(1500);
    lines += "{\n";
    let file = TextFile::new("bar", lines.as_bytes());
    let in_terminal = |line: &str| {
        let mut command = server.command(&[]);
        let program = command.get_program().to_str().unwrap().to_owned();
        let line = line.replace("PROGRAM", &program).replace("FILE", file.path());
        command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env("TOKEN_ORCHESTRATOR_SERVER", &server.url).stdin(Stdio::null());
        let (status, shown, _) = told(&command.output().unwrap());
        (status, shown)
    };
    let (status, shown) = in_terminal("PROGRAM import FILE");
    assert_eq!(status, 1);
    let bar = "\r[#############.......]  66 %  1,000 lines";
    assert!(shown.starts_with(bar), "{shown:?}");
    // It is gone before anything else is written.
    let blank = format!("\r{}\r", " ".repeat(bar.len() - 1));
    let end = "error: line 1501: it begins with { but is not valid JSON: see column 1.\r\n\
               1,500 new, 0 in the pool already, 1 refused";
    assert_eq!(shown[bar.len()..], format!("{blank}{end}"));
    let (_, shown) = in_terminal("cat FILE | PROGRAM import -");
    assert!(shown.starts_with("\r1,000 lines\r"), "{shown:?}");
    // A program that reads what is told gets no bar.
    let (_, _, lines) = told(&server.command(&["import", file.path()]).output().unwrap());
    assert_eq!(lines.len(), 1);
    let (_, shown) = in_terminal("PROGRAM import FILE 2>/dev/null");
    assert_eq!(shown, "0 new, 1,500 in the pool already, 1 refused");
}
