//! How connections end: by idle timeouts, which are the same on every path, and before the server stops.

use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use token_orchestrator::http::{ServeOptions, Timeouts};
use token_orchestrator::store::{Options, StoreExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::certificates::Files;
use crate::client::{Client, Server, at_two_addresses, until};
use crate::vanishing::{frame, get};

/// Leads a request to the router.
const SLOW: &str = "Connection: x\r\n";
/// So long that only a mistake ends a test by it.
const LONG: Duration = Duration::from_hours(1);

/// One is long: the connection must end by the other.
fn idle_after(idle: Duration) -> ServeOptions {
    ServeOptions { timeouts: Timeouts { idle, head: LONG }, ..ServeOptions::default() }
}

/// A connection is closed without a word once it has been idle for that long, and not by a shorter timeout for
/// heads.
#[tokio::test]
async fn idle_connections_end_by_the_same_timeout_on_every_path() {
    let idle = Duration::from_millis(300);
    for head in [LONG, Duration::from_millis(20)] {
        let serve =
            || ServeOptions { timeouts: Timeouts { idle, head }, ..ServeOptions::default() };
        let server = Server::start(Options::default(), serve()).await;
        for (what, fields) in [("new", None), ("hot", Some("")), ("from the router", Some(SLOW))] {
            let mut client = server.connect().await;
            if let Some(fields) = fields {
                client.ask("GET", "/keys", fields).await;
            }
            let began = Instant::now();
            assert!(client.is_closed().await, "{what}");
            assert!(began.elapsed() >= idle.mul_f32(0.9), "{what}: {:?}", began.elapsed());
        }
        let files = Files::new();
        let tls = Some(crate::tls::open(&files).unwrap());
        let secure = Server::start(Options::default(), ServeOptions { tls, ..serve() }).await;
        for is_new in [true, false] {
            let mut client = files.connect(secure.address).await;
            if !is_new {
                client.send("GET", "/keys", "").await;
            }
            let began = Instant::now();
            assert!(client.is_closed().await, "TLS, new: {is_new}");
            assert!(began.elapsed() >= idle.mul_f32(0.9), "TLS: {:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn the_operators_connections_end_by_it_too() {
    let [_, address] = at_two_addresses(idle_after(Duration::from_millis(50))).await;
    assert!(Client::to(address).await.is_closed().await, "new");
    let mut client = Client::to(address).await;
    assert_eq!(client.send("GET", "/healthz", "").await.status, 200);
    assert!(client.is_closed().await);
}

/// A client of HTTP/2 that answers pings and sends no request is idle, too.
#[tokio::test]
async fn pings_keep_no_connection() {
    let timeouts = Timeouts { idle: Duration::from_millis(100), head: Duration::from_millis(10) };
    let serve = ServeOptions { timeouts, ..ServeOptions::default() };
    let server = Server::start(Options::default(), serve).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::spawn(connection);
    // A request that waits is not idle, however long.
    let request =
        Request::get("http://a/keys?wait=60s").body(Full::<bytes::Bytes>::default()).unwrap();
    let waiting = tokio::spawn(sender.send_request(request));
    sleep(4 * timeouts.idle).await;
    assert!(!ended.is_finished());
    server.create().await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    timeout(Duration::from_secs(20), ended).await.expect("it lives for ever").unwrap().unwrap();
}

/// A server that has been told to end, and goes on for an hour.
async fn drain(server: Server) -> JoinHandle<()> {
    let address = server.address;
    let task = server.stop();
    while Client::to(address).await.send("GET", "/readyz", "").await.status != 503 {}
    task
}

fn draining() -> ServeOptions {
    ServeOptions { drain_delay: LONG, ..ServeOptions::default() }
}

#[tokio::test]
async fn the_last_answer_before_the_stop_says_that_it_is_the_last() {
    let server = Server::start(Options::default(), draining()).await;
    let address = server.address;
    let mut clients = Vec::new();
    for fields in ["", SLOW, "Content-Length: 0\r\n"] {
        let mut client = server.connect().await;
        let answer = client.ask("GET", "/keys", fields).await;
        assert_eq!(answer.header("connection"), None);
        clients.push((client, fields));
    }
    let task = drain(server).await;
    for (mut client, fields) in clients {
        let request = format!("GET /keys HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let pipelined = if fields == SLOW { 1 } else { 3 };
        client.write(&request.repeat(pipelined)).await;
        for n in 1..=pipelined {
            let answer = client.read("GET").await;
            assert_eq!(answer.header("connection"), (n == pipelined).then_some("close"), "{n}");
        }
        assert!(client.is_closed().await, "{fields}");
    }
    // New connections are still served, once.
    let mut late = Client::to(address).await;
    let answer = late.send("POST", "/keys", "").await;
    assert_eq!((answer.status, answer.header("connection")), (201, Some("close")));
    assert!(late.is_closed().await);
    let mut late = Client::to(address).await;
    let refused = late.send("POST", "/keys?x=1", "").await;
    assert_eq!((refused.status, refused.header("connection")), (400, Some("close")));
    task.abort();
}

#[tokio::test]
async fn a_request_that_waits_when_the_drain_begins_is_answered_last() {
    let server = Server::start(Options::default(), draining()).await;
    let address = server.address;
    let mut waiting = Vec::new();
    for (count, fields) in (1..).zip(["", SLOW]) {
        let mut client = server.connect().await;
        client.write(&format!("GET /keys?wait=60s HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        // Keys go to waiters in the order of their arrival.
        until("it waits", async || server.store.stats().await.unwrap().waiting == count).await;
        waiting.push(client);
    }
    let task = drain(server).await;
    for mut client in waiting {
        assert_eq!(Client::to(address).await.send("POST", "/keys", "").await.status, 201);
        let answer = client.read("GET").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed().await);
    }
    task.abort();
}

#[tokio::test]
async fn a_client_of_http2_is_told_to_go() {
    let server = Server::start(Options::default(), draining()).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = |path: &str| {
        Request::get(format!("http://a{path}")).body(Full::<bytes::Bytes>::default()).unwrap()
    };
    assert_eq!(sender.send_request(request("/keys")).await.unwrap().status(), 404);
    let waiting = tokio::spawn(sender.send_request(request("/keys?wait=60s")));
    let address = server.address;
    let task = drain(server).await;
    // No new stream is allowed, and the one in flight is finished.
    timeout(Duration::from_secs(20), async {
        while sender.send_request(request("/keys")).await.is_ok() {}
    })
    .await
    .expect("it is never told");
    Client::to(address).await.send("POST", "/keys", "").await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    ended.await.unwrap().unwrap();
    task.abort();
}

/// A client of HTTP/2 decides how much it is sent. One that asks and takes nothing is given up, whatever else it
/// answers.
#[tokio::test]
async fn a_client_of_http2_that_takes_no_answer_is_given_up() {
    let timeouts = Timeouts { idle: LONG, head: Duration::from_millis(50) };
    let serve = ServeOptions { timeouts, ..ServeOptions::default() };
    let server = Server::start(Options::default(), serve).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (settings, ping) = (4, 6);
    let no_window = [0, 4, 0, 0, 0, 0];
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(settings, 0, 0, &no_window)).await.unwrap();
    stream.write_all(&get(1, "/stats")).await.unwrap();
    let given_up = async {
        let mut begin = [0; 9];
        while stream.read_exact(&mut begin).await.is_ok() {
            let mut payload = vec![0; usize::from(begin[1]) * 256 + usize::from(begin[2])];
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            if begin[3] == ping && begin[4] == 0 {
                let _ = stream.write_all(&frame(ping, 1, 0, &payload)).await;
            }
        }
    };
    timeout(Duration::from_secs(15), given_up).await.expect("it is still served");
}
