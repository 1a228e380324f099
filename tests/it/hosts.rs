//! Heads that RFC 9112 forbids, and names by which a server may not be reached; on both paths.

use http_body_util::Full;
use hyper::Request;
use token_orchestrator::http::{Access, ServeOptions};
use token_orchestrator::store::Options;

use crate::api::assert_problem;
use crate::client::{Answer, Client, Server};

/// Leads a request to the router.
const SLOW: &str = "Connection: x\r\n";

async fn guarded_by_name() -> Server {
    let access = Access::open_to_hosts(vec!["keys.example".to_owned()]);
    Server::start(Options::default(), ServeOptions { access, ..ServeOptions::default() }).await
}

/// The answers to a request with these fields, on the hot path and from the router.
async fn ask(server: &Server, target: &str, fields: &str) -> [Answer; 2] {
    let mut client = server.connect().await;
    let mut ask = async |more: &str| {
        client.write(&format!("POST {target} HTTP/1.1\r\n{fields}{more}\r\n")).await;
        client.read("POST").await
    };
    [ask("").await, ask(SLOW).await]
}

#[tokio::test]
async fn a_host_is_named_once_and_well() {
    let server = Server::default().await;
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host:\r\n", "Host: a:x\r\n"] {
        for answer in ask(&server, "/keys", fields).await {
            assert_problem(&answer, 400, "malformed-host");
        }
    }
    for answer in ask(&server, "http://a@b/keys", "Host: b\r\n").await {
        assert_problem(&answer, 400, "malformed-host");
    }
    for (target, fields) in [("/keys", "Host: a:80\r\n"), ("http://b/keys", "Host: [::1]\r\n")] {
        for answer in ask(&server, target, fields).await {
            assert_eq!(answer.status, 201, "{target} {fields}");
        }
    }
    let mut old = server.connect().await;
    old.write("POST /keys HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.read("POST").await.status, 201, "HTTP/1.0 has no host");
}

/// DNS rebinding: the browser takes the server for the page's own site.
#[tokio::test]
async fn a_page_whose_name_leads_here_gets_nothing() {
    let server = guarded_by_name().await;
    for host in ["evil.example", "keys.example.evil.example", "evil.example:8080"] {
        let fields =
            format!("Host: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
        for fields in [&fields, &format!("Host: {host}\r\n")] {
            for answer in ask(&server, "/keys", fields).await {
                assert_problem(&answer, 421, "foreign-host");
                let name = host.split(':').next().unwrap();
                assert!(answer.body.contains(&format!("--allowed-host {name}.")), "{answer:?}");
            }
        }
    }
    let target = "http://evil.example/keys";
    for answer in ask(&server, target, "Host: localhost\r\n").await {
        assert_problem(&answer, 421, "foreign-host");
    }
    for host in ["keys.example:8080", "Localhost", "127.0.0.1:1", "[::1]"] {
        for answer in ask(&server, "/keys", &format!("Host: {host}\r\n")).await {
            assert_eq!(answer.status, 201, "{host}");
        }
    }
    let mut probe = server.connect().await;
    probe.write("GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(probe.read("GET").await.status, 200, "probes may use any name");
    let mut http2 = server.connect_http2().await;
    for (host, status) in [("evil.example", 421), ("keys.example", 201)] {
        let request = Request::post(format!("http://{host}/keys")).body(Full::default()).unwrap();
        assert_eq!(http2.send_request(request).await.unwrap().status(), status, "{host}");
    }
}

#[tokio::test]
async fn a_body_has_no_coding_but_chunked() {
    let server = Server::default().await;
    for (codings, status, kind) in [
        ("Transfer-Encoding: chunked, chunked", 400, "malformed-coding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: Chunked", 400, "malformed-coding"),
        ("Transfer-Encoding: gzip, chunked", 501, "unknown-coding"),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 501, "unknown-coding"),
    ] {
        let mut client = server.connect().await;
        let next = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = format!("POST /keys HTTP/1.1\r\nHost: a\r\n{codings}\r\n\r\n");
        client.write(&format!("{head}0\r\n\r\n{next}")).await;
        let answer = client.read("POST").await;
        assert_problem(&answer, status, kind);
        assert_eq!(answer.header("connection"), Some("close"), "{codings}");
        assert!(client.is_closed().await, "{codings}");
    }
    let mut client = server.connect().await;
    let listed = "POST /keys HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n";
    client.write(listed).await;
    assert_eq!(client.read("POST").await.status, 201, "elements of a list may be empty");
    // Hyper refuses what does not end with it.
    let mut client = server.connect().await;
    client.write("POST /keys HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n").await;
    assert_eq!(client.read("POST").await.status, 400);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_request_without_a_version_is_malformed() {
    let server = Server::default().await;
    let before =
        ["", "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n", "GET /stats HTTP/1.1\r\nHost: a\r\n\r\n"];
    for before in before {
        for bare in ["GET x\r\n", "GET /keys\r\n", "GET /keys\r\n\r\n"] {
            let mut client: Client = server.connect().await;
            client.write(&format!("{before}{bare}")).await;
            if !before.is_empty() {
                client.read("GET").await;
            }
            assert_eq!(client.read("GET").await.status, 400, "{before} {bare}");
            assert!(client.is_closed().await, "{before} {bare}");
        }
    }
}
