//! The binaries over TLS, and what the client shows to be let in.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread::{self, JoinHandle};

use rcgen::date_time_ymd;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::certificates::Files;
use crate::cli::{Started, binary, error_line, signal, start};
use crate::client::{self, Client};
use crate::operators::metrics;

/// A server over TLS that ends with its test.
pub(crate) struct Server {
    child: Started,
    pub(crate) address: SocketAddr,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Server {
    pub(crate) fn new(files: &Files) -> Self {
        let mut command = binary();
        let (child, address, lines) = start(
            command
                .args(["--listen", "127.0.0.1:0", "--allowed-host", "test"])
                .args(files.options()),
        );
        Self { child, address: address.parse().unwrap(), lines: Box::new(lines) }
    }

    /// Waits for a line of its log.
    fn says(&mut self, what: &str) -> String {
        self.lines.find(|line| line.contains(what)).expect(what)
    }
}

/// A command of the client for the server at this address.
pub(crate) fn stats(url: &str) -> Command {
    let mut command = binary();
    command.args(["stats", "--json", "--server", url]);
    command
}

/// What a command tells that fails.
pub(crate) fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    error_line(&output)
}

#[test]
fn a_client_trusts_the_server_whose_authority_it_was_told() {
    let files = Files::new();
    let server = Server::new(&files);
    let ca = files.path("ca.pem");
    let url = format!("https://localhost:{}", server.address.port());
    for url in [&url, &format!("https://{}", server.address)] {
        let output = stats(url).args(["--ca-cert", &ca]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    assert!(stats(&url).env("TOKEN_ORCHESTRATOR_CA_CERT", &ca).output().unwrap().status.success());
    let mut run = binary();
    run.args(["run", "--server", &url, "--ca-cert", &ca, "--", "true"]);
    // There is no key.
    assert_eq!(run.output().unwrap().status.code(), Some(125));
    assert!(refusal(&mut stats(&url)).contains("certificate"));
    let others = Files::new().path("ca.pem");
    for (wrong, named) in [("key.pem", "no certificate"), ("nowhere", "nowhere")] {
        let path = files.path(wrong);
        assert!(refusal(stats(&url).args(["--ca-cert", &path])).contains(named));
    }
    assert!(refusal(stats(&url).args(["--ca-cert", &others])).contains(&others));
    let others = Files::new();
    assert!(
        refusal(stats(&url).args(["--ca-cert", &others.path("ca.pem")])).contains("certificate")
    );
    // Neither speaks what the other does.
    let plain = format!("http://{}", server.address);
    assert!(refusal(&mut stats(&plain)).contains("no answer"));
}

/// When the certificate ends, as the metrics say.
async fn certificate_ends(
    client: &mut Client<impl AsyncRead + AsyncWrite + Unpin>,
) -> Option<String> {
    let seen = metrics(client).await;
    seen.get("token_orchestrator_certificate_expiry_timestamp_seconds").cloned()
}

#[tokio::test]
async fn sighup_reads_the_certificate_anew() {
    let files = Files::new();
    let mut server = Server::new(&files);
    let mut old = files.connect(server.address).await;
    let first = files.shown(server.address).await;
    assert!(server.says("speaking TLS").contains("valid until 4"));
    // In Unix time; 4096 is the year that the certificates of these tests end in.
    assert_eq!(certificate_ends(&mut old).await.as_deref(), Some("67090118400"));
    files.renew_as(&["localhost"], |params| params.not_after = date_time_ymd(4095, 1, 1));
    signal(&server.child, "HUP");
    assert!(server.says("SIGHUP: reloaded the certificate").contains("valid until 4095-01-01"));
    assert_eq!(certificate_ends(&mut old).await.as_deref(), Some("67058582400"));
    let second = files.shown(server.address).await;
    assert_ne!(first, second);
    files.write("key.pem", "no key");
    signal(&server.child, "HUP");
    assert!(server.says("kept the previous certificate").contains("key.pem"));
    assert_eq!(files.shown(server.address).await, second);
    assert_eq!(old.send("GET", "/stats", "").await.status, 200);
    signal(&server.child, "TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn without_a_certificate_none_expires() {
    let server = client::Server::default().await;
    assert_eq!(certificate_ends(&mut server.connect().await).await, None);
}

#[test]
fn a_server_does_not_start_without_a_certificate_and_its_key() {
    let files = Files::new();
    let [certificate_option, certificate, key_option, key] = files.options();
    let other = Files::new();
    let (other_key, nowhere) = (other.path("key.pem"), files.path("nowhere"));
    for (arguments, named, status) in [
        (&[&certificate_option, &certificate][..], "--tls-key", 2),
        (&[&key_option, &key], "--tls-cert", 2),
        (&[&certificate_option, &certificate, &key_option, &other_key], "not the key of", 1),
        (&[&certificate_option, &nowhere, &key_option, &key], "nowhere", 1),
        (&[&certificate_option, &certificate, &key_option, &nowhere], "nowhere", 1),
    ] {
        let output = binary().args(["--listen", "127.0.0.1:0"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(error_line(&output).contains(named), "{}", error_line(&output));
    }
}

/// A server that answers once, and tells what it was asked.
pub(crate) fn answer_once(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, asked)
}

#[test]
fn a_token_is_shown_and_its_refusal_told() {
    let files = Files::new();
    files.write("token", "\n from-a-file \n");
    for (status, told) in [("401 Unauthorized", "wants a token"), ("403 Forbidden", "not allow")] {
        let (url, asked) =
            answer_once(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}"));
        let mut command = stats(&url);
        command.env("TOKEN_ORCHESTRATOR_TOKEN", "from-the-environment");
        let expected = if status.starts_with("401") {
            "from-the-environment"
        } else {
            command.args(["--token-file", &files.path("token")]);
            "from-a-file"
        };
        assert!(refusal(&mut command).contains(told));
        let asked = asked.join().unwrap();
        assert!(asked.contains(&format!("authorization: Bearer {expected}\r\n")), "{asked}");
    }
    let (url, asked) = answer_once("HTTP/1.1 404 Not Found\r\n\r\n".to_owned());
    refusal(&mut stats(&url));
    assert!(!asked.join().unwrap().contains("authorization"));
}

#[test]
fn a_token_goes_nowhere_else() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let there = elsewhere.local_addr().unwrap();
    let redirect =
        format!("HTTP/1.1 307 x\r\nLocation: http://{there}/\r\nContent-Length: 0\r\n\r\n");
    let (url, _) = answer_once(redirect);
    let told = refusal(stats(&url).env("TOKEN_ORCHESTRATOR_TOKEN", "secret"));
    assert!(told.contains("307") && told.contains("redirects"), "{told}");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    for url in ["http://192.0.2.1:8080", "http://example.org", "http://[2001:db8::1]:8080"] {
        let told = refusal(stats(url).env("TOKEN_ORCHESTRATOR_TOKEN", "secret"));
        assert!(told.contains("https") && !told.contains("secret"), "{told}");
    }
    for (wrong, named) in [("", "TOKEN_ORCHESTRATOR_TOKEN"), ("two words", "not contain a token")] {
        let told = refusal(stats(&url).env("TOKEN_ORCHESTRATOR_TOKEN", wrong));
        assert!(told.contains(named) && !told.contains("words"), "{told}");
    }
    let files = Files::new();
    let nowhere = files.path("nowhere");
    assert!(refusal(stats(&url).args(["--token-file", &nowhere])).contains(&nowhere));
    let mut run = binary();
    run.args(["run", "--server", "http://192.0.2.1", "--", "true"]);
    let output = run.env("TOKEN_ORCHESTRATOR_TOKEN", "secret").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(error_line(&output).contains("https"));
}
