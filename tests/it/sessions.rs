//! TLS whose records come together: what a session has read already, the socket tells nobody again.

use std::net::SocketAddr;
use std::time::Duration;

use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::certificates::Files;
use crate::client::{Server, at_two_addresses};
use crate::tls::open;

/// Far below the idle timeout, which would end a connection that was forgotten.
const SOON: Duration = Duration::from_secs(20);

/// A client whose bytes go to the server in one piece whenever `go` says so, after its hello.
struct Corked {
    tls: TlsStream<DuplexStream>,
    go: mpsc::UnboundedSender<()>,
}

impl Corked {
    async fn to(files: &Files, address: SocketAddr) -> Self {
        let (near, far) = duplex(64 * 1024);
        let (mut from_client, mut to_client) = split(far);
        let (mut from_server, mut to_server) =
            TcpStream::connect(address).await.unwrap().into_split();
        let (go, mut may_go) = mpsc::unbounded_channel();
        go.send(()).unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 16 * 1024];
            while may_go.recv().await.is_some() {
                let length = from_client.read(&mut bytes).await.unwrap();
                to_server.write_all(&bytes[..length]).await.unwrap();
            }
        });
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
            let _ = to_client.shutdown().await;
        });
        Self { tls: files.handshake_over(near, &["http/1.1"]).await, go }
    }

    async fn write(&mut self, text: &str) {
        self.tls.write_all(text.as_bytes()).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    fn go(&self) {
        self.go.send(()).unwrap();
    }

    /// Reads to the end of the first body, which is `{}` or ends with `"}`.
    async fn answer(&mut self) -> String {
        let mut text = String::new();
        let read = async {
            while !text.ends_with('}') {
                let mut bytes = [0; 1024];
                let length = self.tls.read(&mut bytes).await.unwrap();
                assert!(length > 0, "{text}");
                text.push_str(str::from_utf8(&bytes[..length]).unwrap());
            }
        };
        timeout(SOON, read).await.expect("an answer");
        text
    }

    async fn assert_ends(&mut self) {
        let mut rest = Vec::new();
        timeout(SOON, self.tls.read_to_end(&mut rest)).await.expect("the end").unwrap();
        assert!(rest.is_empty());
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn a_request_that_comes_with_the_end_of_the_handshake_is_answered_at_each_address() {
    let files = Files::new();
    let options = ServeOptions { tls: Some(open(&files).unwrap()), ..ServeOptions::default() };
    let addresses = at_two_addresses(options).await;
    for address in addresses {
        let mut client = Corked::to(&files, address).await;
        client.write(&get("/keys")).await;
        client.go();
        assert!(client.answer().await.starts_with("HTTP/1.1 404"));
    }
}

#[tokio::test]
async fn a_client_that_says_goodbye_together_with_a_request_gets_its_answer_and_the_end() {
    let (files, server) = crate::tls::default().await;
    for is_with_handshake in [true, false] {
        let mut client = Corked::to(&files, server.address).await;
        if !is_with_handshake {
            client.write(&get("/keys")).await;
            client.go();
            client.answer().await;
        }
        client.write(&get("/keys")).await;
        client.tls.shutdown().await.unwrap();
        client.go();
        assert!(client.answer().await.starts_with("HTTP/1.1 404"));
        client.assert_ends().await;
    }
}

#[tokio::test]
async fn the_first_answer_is_the_last_one_once_the_server_drains() {
    let files = Files::new();
    let tls = Some(open(&files).unwrap());
    let drain_delay = Duration::from_hours(1);
    let options = ServeOptions { tls, drain_delay, ..ServeOptions::default() };
    let server = Server::start(Options::default(), options).await;
    let address = server.address;
    // One that was there before tells when the server drains.
    let mut before = files.connect(address).await;
    let _stopping = server.stop();
    while before.send("GET", "/keys", "").await.header("connection").is_none() {}
    let mut client = Corked::to(&files, address).await;
    client.write(&get("/keys")).await;
    client.go();
    let answer = client.answer().await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    client.assert_ends().await;
}
