//! The server over TLS.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use token_orchestrator::http::{self, ServeOptions, Timeouts, Tls};
use token_orchestrator::store::{Diagnose, Options, StoreExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;

use crate::certificates::{Files, shown_to};
use crate::client::{Client, Server, at_two_addresses, http2, impatient};
use crate::connections::begin_creation;
use crate::paths::bytes;

pub(crate) fn open(files: &Files) -> std::io::Result<Tls> {
    Tls::open(files.path("cert.pem"), files.path("key.pem"))
}

async fn start(files: &Files, options: ServeOptions) -> Server {
    let tls = Some(open(files).unwrap());
    Server::start(Options::default(), ServeOptions { tls, ..options }).await
}

pub(crate) async fn default() -> (Files, Server) {
    let files = Files::new();
    let server = start(&files, ServeOptions::default()).await;
    (files, server)
}

fn patient() -> ServeOptions {
    let long = Duration::from_hours(1);
    let timeouts = Timeouts { head: long, idle: long };
    ServeOptions { timeouts, drain_timeout: long, ..ServeOptions::default() }
}

fn hasty() -> ServeOptions {
    ServeOptions { timeouts: impatient(30), ..ServeOptions::default() }
}

/// It still serves.
async fn assert_well(files: &Files, server: &Server) {
    let answer = files.connect(server.address).await.send("GET", "/stats", "").await;
    assert_eq!(answer.status, 200);
}

/// Reads until there is no more.
async fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // It may end with a reset, as what was sent was not read to its end.
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[tokio::test]
async fn http1_is_answered_with_the_same_bytes_as_without_tls() {
    let (files, server) = default().await;
    let id = server.store.create(1).await.unwrap().ids[0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = Arc::new(server.store.clone());
    let diagnose = Some(Arc::new(server.store.clone()) as Arc<dyn Diagnose>);
    let serve = ServeOptions { diagnose, ..ServeOptions::default() };
    tokio::spawn(http::serve(listener, store, serve, pending()));
    let mut plain = Client::to(address).await;
    let mut secured = files.connect(server.address).await;
    let mut nameless = Client::over(files.handshake(server.address, &[]).await);
    for (method, path, body) in [
        ("GET", format!("/keys/{id}"), ""),
        ("GET", "/keys".to_owned(), ""),
        ("PUT", format!("/keys/{id}"), ""),
        ("PUT", format!("/keepalive/{id}"), ""),
        ("PUT", format!("/keys/{id}/lease"), ""),
        ("PUT", "/keepalive".to_owned(), "{}"),
        ("POST", "/keys".to_owned(), "{"),
        ("HEAD", "/stats".to_owned(), ""),
        ("DELETE", "/stats".to_owned(), ""),
        ("GET", "/openapi.json".to_owned(), ""),
        ("GET", "/nowhere".to_owned(), ""),
    ] {
        let expected = bytes(&plain.send(method, &path, body).await);
        for client in [&mut secured, &mut nameless] {
            if path == "/keys" && method == "GET" {
                plain.send("PUT", &format!("/keys/{id}"), "").await;
            }
            let answer = bytes(&client.send(method, &path, body).await);
            assert_eq!(answer, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_if_the_handshake_says_so() {
    let (files, server) = default().await;
    let stream = files.handshake(server.address, &["http/1.1", "h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = http2(stream).await;
    for (method, path, status) in [
        ("POST", "/keys", 201),
        ("GET", "/keys", 200),
        ("GET", "/keys", 404),
        ("HEAD", "/keys", 405),
        ("GET", "/stats", 200),
    ] {
        let request = hyper::Request::builder().method(method).uri(format!("https://test{path}"));
        let answer = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(method == "HEAD" || body.starts_with(b"{"), "{body:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_the_connection_is_kept() {
    let (files, server) = default().await;
    let mut client = files.connect(server.address).await;
    assert_eq!(client.send("POST", "/keys", "").await.status, 201);
    for _ in 0..2 {
        let get = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write(&format!("{get}{get}GET /stats HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(client.read("GET").await.status);
        }
        assert!([[200, 404, 200], [404, 404, 200]].contains(&statuses[..].try_into().unwrap()));
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let files = Files::new();
    let tls = open(&files).unwrap();
    let options = ServeOptions { tls: Some(tls.clone()), ..ServeOptions::default() };
    let server = Server::start(Options::default(), options).await;
    let old = files.handshake(server.address, &[]).await;
    let first = shown_to(&old);
    let mut old = Client::over(old);
    assert_eq!(files.shown(server.address).await, first);
    files.renew();
    assert_eq!(files.shown(server.address).await, first);
    tls.reload().unwrap();
    let second = files.shown(server.address).await;
    assert_ne!(second, first);
    for (name, text) in [("cert.pem", ""), ("key.pem", "no key"), ("key.pem", "")] {
        files.renew();
        files.write(name, text);
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(files.shown(server.address).await, second);
    }
    assert_eq!(old.send("GET", "/stats", "").await.status, 200);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let files = Files::new();
    assert!(open(&files).unwrap().expires_at().is_some());
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    files.write("both.pem", &(read(&key) + &read(&certificate)));
    Tls::open(files.path("both.pem"), files.path("both.pem")).unwrap();
    files.write("large.pem", &"#\n".repeat(1 << 20));
    files.write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    files.write("cut.pem", &read(&certificate)[..300]);
    files.write("chain.pem", &(read(&certificate) + &read(&files.path("bad.pem"))));
    files.write("whole.pem", &(read(&certificate) + &read(&files.path("ca.pem"))));
    Tls::open(files.path("whole.pem"), &key).unwrap();
    let other = Files::new().path("key.pem");
    for path in ["large.pem", "bad.pem", "chain.pem", "cut.pem", "key.pem", "nowhere.pem", ""] {
        let error = Tls::open(files.path(path), &key).unwrap_err().to_string();
        assert!(error.contains(path) && !error.contains('\n'), "{error}");
    }
    for path in ["large.pem", "cert.pem", "nowhere.pem", "", &other] {
        let error = Tls::open(&certificate, files.path(path)).unwrap_err().to_string();
        assert!(error.contains(path) && !error.contains('\n'), "{error}");
    }
    files.write("old.pem", &read(&key));
    files.renew();
    let error = Tls::open(&certificate, files.path("old.pem")).unwrap_err().to_string();
    assert!(error.contains("is not the key of"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_stalls_is_given_up() {
    let files = Files::new();
    let server = start(&files, hasty()).await;
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        assert_eq!(drain(&mut stream).await, b"");
    }
    // So is who has agreed on a protocol and does not speak it.
    for (protocol, begin) in [("h2", ""), ("h2", "PRI * HTTP/2.0"), ("http/1.1", "GET /ke")] {
        let mut client = Client::over(files.handshake(server.address, &[protocol]).await);
        client.write(begin).await;
        assert!(client.is_closed().await, "{protocol} {begin}");
    }
}

#[tokio::test]
async fn handshakes_that_stall_hold_up_nobody_and_end_with_the_server() {
    let files = Files::new();
    let server = start(&files, patient()).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        stalled.push(stream);
    }
    assert_well(&files, &server).await;
    server.stop().await.unwrap();
    for mut stream in stalled {
        assert_eq!(drain(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_turned_away() {
    let (files, server) = default().await;
    for garbage in [
        &b"GET /keys HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 5000],
        &[0xff; 5000],
        // An alert, a hello of no length, one that is too long, and one of TLS 1.0 (see below).
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x03\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x03\xff\xff\x01\x00\x00\x00",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = drain(&mut stream).await;
        // At most an alert.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
    assert_eq!(server.store.stats().await.unwrap().totals.created, 0);
    assert_well(&files, &server).await;
}

/// A hello, in which some bytes are changed each time.
#[tokio::test]
async fn no_hello_harms() {
    let (files, server) = default().await;
    let hello = hello();
    for (at, _) in hello.iter().enumerate().step_by(3) {
        let mut hello = hello.clone();
        hello[at] ^= 0x5f;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        stream.shutdown().await.unwrap();
        drain(&mut stream).await;
    }
    assert_well(&files, &server).await;
}

/// What a client begins with.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// TLS 1.1: a hello with a cipher, a signature algorithm and a curve that the server knows.
#[tokio::test]
async fn old_versions_are_refused() {
    let (_files, server) = default().await;
    for version in [1, 2] {
        let random = [7; 32];
        let rest = b"\x00\x00\x04\xc0\x2b\xc0\x09\x01\x00\x00\x10\
            \x00\x0d\x00\x04\x00\x02\x04\x03\x00\x0a\x00\x04\x00\x02\x00\x17";
        let body = [&[3, version], &random[..], rest].concat();
        let length = u8::try_from(body.len()).unwrap();
        let head = [0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[&head, &body[..]].concat()).await.unwrap();
        // A fatal alert: protocol_version.
        assert_eq!(drain(&mut stream).await[5..], [2, 70]);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let (files, server) = default().await;
    for is_polite in [false, true] {
        let mut client = files.connect(server.address).await;
        client.write("GET /keys?wait=10s HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut client = client.into_stream();
        while server.store.stats().await.unwrap().waiting == 0 {
            yield_now().await;
        }
        if is_polite {
            client.shutdown().await.unwrap();
        }
        drop(client);
        while server.store.stats().await.unwrap().waiting > 0 {
            yield_now().await;
        }
    }
    let mut client = http2(files.handshake(server.address, &["h2"]).await).await;
    let request = hyper::Request::get("https://a/keys?wait=10s").body(Full::default()).unwrap();
    let waiter = tokio::spawn(client.send_request(request));
    while server.store.stats().await.unwrap().waiting == 0 {
        yield_now().await;
    }
    waiter.abort();
    while server.store.stats().await.unwrap().waiting > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_flight_and_says_goodbye() {
    let files = Files::new();
    let server = start(&files, patient()).await;
    let mut idle = files.connect(server.address).await;
    assert_eq!(idle.send("POST", "/keys", "").await.status, 201);
    let mut busy = files.connect(server.address).await;
    begin_creation(&mut busy).await;
    let store = server.store.clone();
    let ended = server.stop();
    // Without a goodbye it would be an error.
    assert_eq!(idle.into_stream().read(&mut [0]).await.unwrap(), 0);
    assert!(!ended.is_finished());
    busy.write("{\"count\":7}").await;
    assert_eq!(busy.read("POST").await.status, 201);
    assert_eq!(busy.into_stream().read(&mut [0]).await.unwrap(), 0);
    ended.await.unwrap();
    assert_eq!(store.stats().await.unwrap().keys, 8);
}

#[tokio::test]
async fn a_handshake_takes_a_place() {
    let files = Files::new();
    let server = start(&files, ServeOptions { connections_max: 2, ..patient() }).await;
    let mut first = files.connect(server.address).await;
    let mut stalled = TcpStream::connect(server.address).await.unwrap();
    stalled.write_all(b"\x16").await.unwrap();
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(&hello()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(first.send("GET", "/stats", "").await.status, 200);
    }
    assert!(third.try_read(&mut [0]).is_err(), "it was served");
    drop(stalled);
    third.read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn operators_are_heard_over_tls_too() {
    let files = Files::new();
    let options = ServeOptions { tls: Some(open(&files).unwrap()), ..ServeOptions::default() };
    let addresses = at_two_addresses(options).await;
    for (address, status) in addresses.into_iter().zip([404, 200]) {
        let mut client = files.connect(address).await;
        assert_eq!(client.send("GET", "/healthz", "").await.status, status);
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(!drain(&mut plain).await.starts_with(b"HTTP"));
    }
}
