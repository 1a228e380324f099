//! Limits for each client, and for the beginnings of heads.

use std::time::Duration;

use http_body_util::Full;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Options, StoreExt};
use tokio::time::timeout;

use crate::api::assert_problem;
use crate::client::{Client, Server, until};

/// Leads a request to the router.
const SLOW: &str = "Connection: x\r\n";

async fn with_places(max: usize) -> Server {
    let serve = ServeOptions { connections_per_peer_max: Some(max), ..ServeOptions::default() };
    Server::start(Options::default(), serve).await
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let server = with_places(2).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.send("POST", "/keys", "").await.status, 201);
    assert_eq!(second.send("GET", "/stats", "").await.status, 200);
    let mut third = server.connect().await;
    assert!(third.is_closed().await);
    // Another address has places of its own.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::over(socket.connect(server.address).await.unwrap());
    let text = other.send("GET", "/metrics", "").await.body;
    assert!(text.contains("\ntoken_orchestrator_connections_refused_total 1\n"), "{text}");
    for one in [first, second] {
        drop(one);
        let mut next = server.connect().await;
        // The server may not have noticed the end yet.
        while !next.answers("/stats").await {
            next = server.connect().await;
        }
    }
}

#[tokio::test]
async fn one_client_waits_with_so_many_requests() {
    let wait = "GET /keys?wait=10s HTTP/1.1\r\nHost: a\r\n";
    let server = with_places(3).await;
    let waiting = async |count| {
        until("so many wait", async || server.store.stats().await.unwrap().waiting == count).await;
    };
    let mut hot = server.connect().await;
    hot.write(&format!("{wait}\r\n{wait}\r\n")).await;
    waiting(2).await;
    let mut http2 = server.connect_http2().await;
    let request = hyper::Request::post("http://a/leases?wait=10s").body(Full::default()).unwrap();
    let stream = tokio::spawn(http2.send_request(request));
    waiting(3).await;
    let mut third = server.connect().await;
    for target in ["/keys?wait=1s", "/keys?wait=1s&count=2"] {
        for path in ["", SLOW] {
            let refused = third.ask("GET", target, path).await;
            assert_problem(&refused, 429, "too-many-waiters-of-client");
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
    }
    assert_eq!(third.send("GET", "/keys", "").await.status, 404, "without waiting it is as always");
    // Those that have waited make room, whether they got a key or have gone.
    assert_eq!(third.send("POST", "/keys", "{\"count\":2}").await.status, 201);
    assert_eq!([hot.read("GET").await.status, hot.read("GET").await.status], [200, 200]);
    stream.abort();
    waiting(0).await;
    for path in ["", SLOW] {
        third.write(&format!("{wait}{path}\r\n")).await;
        waiting(1).await;
        assert_eq!(hot.send("POST", "/keys", "").await.status, 201);
        assert_eq!(third.read("GET").await.status, 200);
    }
    // A key that is free is given to all of them.
    hot.write(&format!("{wait}\r\n").repeat(3)).await;
    waiting(3).await;
    server.clock.advance_ms(10_000);
    for _ in 0..3 {
        assert_eq!(hot.read("GET").await.status, 404);
    }
}

/// Many heads that have begun and stall take no more memory than their budget. Others are served.
#[tokio::test]
async fn heads_that_stall_have_a_limit_together() {
    let server = Server::default().await;
    let id = server.create().await;
    let stall = format!("GET /keys HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(16_000));
    let mut stalled = Vec::new();
    for _ in 0..1100 {
        let mut client = server.connect().await;
        client.write(&stall).await;
        stalled.push(client);
    }
    let mut refused = 0;
    for client in stalled.iter_mut().rev() {
        // The last ones are refused, and the first ones go on.
        let Ok(answer) = timeout(Duration::from_secs(1), client.read("GET")).await else { break };
        assert_problem(&answer, 503, "busy");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_closed().await);
        refused += 1;
    }
    assert_eq!(refused, 1100 - 16 * 1024 * 1024 / stall.len());
    let mut client = server.connect().await;
    let shown = client.send("GET", &format!("/keys/{id}"), "").await;
    assert_eq!(shown.status, 200);
    // What came before such a head is answered, and then the connection ends.
    client.write(&format!("GET /keys HTTP/1.1\r\nHost: a\r\n\r\n{stall}")).await;
    let last = client.read("GET").await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    stalled[0].write("\r\n\r\n").await;
    assert_eq!(stalled[0].read("GET").await.status, 404);
    // Each head that is finished makes room.
    let mut client = server.connect().await;
    client.write(&stall).await;
    client.write("\r\n\r\n").await;
    assert_eq!(client.read("GET").await.status, 404);
}
