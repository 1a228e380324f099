//! Connections: pipelines, bodies in pieces, limits, and the end of the server.

use std::time::Duration;

use serde_json::json;
use token_orchestrator::http::{ServeOptions, Timeouts};
use token_orchestrator::store::{Options, StoreExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::api::{assert_json, assert_problem};
use crate::client::{Client, Server, impatient};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect().await;
    let requests = [
        "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("PUT /keys/{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}"),
        &format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    client.write(&requests.concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.read("GET").await.status);
    }
    assert_eq!(statuses, [200, 404, 200]);
    assert_eq!(client.read("GET").await.json()["isBlocked"], json!(false));
}

/// A connection goes back to the hot path amid a pipeline, with requests that hyper has read already.
#[tokio::test]
async fn a_pipeline_goes_from_path_to_path_and_stays_whole() {
    let server = Server::default().await;
    let hot = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";
    let cold = "GET /keys HTTP/1.1\r\nHost: a\r\nConnection: x\r\n\r\n";
    let long =
        |length| format!("GET /keys HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length));
    let pipelines = [
        (cold.to_owned() + &hot.repeat(40), 41),
        ([cold, &hot.repeat(40)].concat().repeat(5), 205),
        ([cold.repeat(40), hot.repeat(40)].concat().repeat(5), 400),
        // More than the hot path reads at a time.
        ([cold, &long(12_000), &hot.repeat(2000)].concat(), 2002),
        ([cold, &long(7000), &long(15_000), &hot.repeat(20), &long(16_000)].concat(), 24),
    ];
    for (pipeline, count) in pipelines {
        for ends in [false, true] {
            let mut client = server.connect().await;
            client.write(&pipeline).await;
            if ends {
                client.end().await;
            }
            for number in 0..count {
                let read = timeout(Duration::from_secs(20), client.read("GET"));
                let answer = read.await.unwrap_or_else(|_| panic!("{number} of {count}, {ends}"));
                assert_json(&answer, 404, "{}");
            }
            assert!(!ends || client.is_closed().await, "more than {count}");
        }
    }
}

#[tokio::test]
async fn a_large_creation_does_not_hold_up_others() {
    let server = Server::default().await;
    server.create().await;
    let mut large = server.connect().await;
    large
        .write("POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n{\"count\":100000}")
        .await;
    // On this single thread it is not done when the small requests are.
    while server.store.stats().await.unwrap().keys == 1 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        assert_eq!(server.send("GET", "/keys", "").await.status, 200);
    }
    assert!(server.store.stats().await.unwrap().free < 90_000, "the creation came first");
    assert_eq!(large.read("POST").await.status, 201);
}

/// Sends the head of a creation, and waits for the server's word that it waits for the body.
pub(crate) async fn begin_creation<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) {
    let head =
        "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n";
    client.write(head).await;
    assert_eq!(client.read("POST").await.status, 100);
}

#[tokio::test]
async fn a_body_that_comes_late_and_is_not_needed_keeps_the_connection() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        let head = format!("PUT /keys/{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n");
        client.write(&format!("{head}Expect: 100-continue\r\n\r\n")).await;
        assert_eq!(client.read("PUT").await.status, 100);
        client.write("{}").await;
        assert_json(&client.read("PUT").await, 200, "{}");
    }
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_refused_before_it_is_sent() {
    let server = Server::default().await;
    let mut client = server.connect().await;
    let head =
        "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 4200000\r\nExpect: 100-continue\r\n\r\n";
    client.write(head).await;
    assert_problem(&client.read("POST").await, 413, "body-too-large");
}

/// Its client may send the body or the next request. What comes is not read, or it would depend on how it is cut.
#[tokio::test]
async fn a_request_that_is_refused_before_its_body_is_the_last_one() {
    let server = Server::default().await;
    let chunked = "Expect: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sized = "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (valid, malformed) = ("GET /keys HTTP/1.1\r\nHost: a\r\n\r\n", "GET /keys\rx\r\n\r\n");
    for (head, body) in [(chunked, "2\r\n{}\r\n0\r\n\r\n"), (sized, "{}")] {
        for next in ["", valid, malformed] {
            let mut client = server.connect().await;
            client.write(&format!("PUT /keys?x=1 HTTP/1.1\r\nHost: a\r\n{head}{body}{next}")).await;
            let answer = client.read("PUT").await;
            assert_problem(&answer, 400, "invalid-parameter");
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(client.is_closed().await);
        }
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    let server = Server::default().await;
    for request in
        ["GET /keys HTTP/1.1\r\nHost: a\r\n\r\n", "POST /keys HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut client = server.connect().await;
        client.write(&format!("{request}GET /ke")).await;
        assert!([404, 201].contains(&client.read("GET").await.status));
        client.write("ys/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_json(&client.read("GET").await, 404, "{}");
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_flight_and_closes_the_idle() {
    let server = Server::default().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.send("POST", "/keys", "").await.status, 201);
    let mut busy = server.connect().await;
    begin_creation(&mut busy).await;
    let store = server.store.clone();
    let ended = server.stop();
    assert!(idle.is_closed().await);
    assert!(!ended.is_finished());
    busy.write("{\"count\":7}").await;
    assert_eq!(busy.read("POST").await.status, 201);
    ended.await.unwrap();
    assert_eq!(store.stats().await.unwrap().keys, 8);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let serve = ServeOptions { drain_timeout: Duration::from_millis(30), ..Default::default() };
    let server = Server::start(Options::default(), serve).await;
    let mut busy = server.connect().await;
    begin_creation(&mut busy).await;
    server.stop().await.unwrap();
    assert!(busy.is_closed().await);
}

#[tokio::test]
async fn a_head_that_stalls_is_given_up() {
    let serve = ServeOptions { timeouts: impatient(30), ..Default::default() };
    let server = Server::start(Options::default(), serve).await;
    for head in ["GET /keys HT", "PRI * HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "\r\n"] {
        let mut client = server.connect().await;
        client.write(head).await;
        assert!(client.is_closed().await, "{head}");
    }
}

#[tokio::test]
async fn connections_past_the_limit_wait_their_turn() {
    let serve = ServeOptions { connections_max: 2, ..Default::default() };
    let server = Server::start(Options::default(), serve).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.send("POST", "/keys", "").await.status, 201);
    assert_eq!(second.send("POST", "/keys", "").await.status, 201);
    let mut third = server.connect().await;
    third.write("GET /keys HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // It is not served before one of the others has gone.
    assert_eq!(first.send("GET", "/keys", "").await.status, 200);
    assert_eq!(second.send("GET", "/keys", "").await.status, 200);
    drop(first);
    assert_eq!(third.read("GET").await.status, 404);
}

/// So much that the task of the connection spends its budget before it ever waits.
#[tokio::test]
async fn a_connection_that_begins_with_megabytes_hears_of_the_stop() {
    let server = Server::start(
        Options::default(),
        ServeOptions {
            timeouts: Timeouts { head: Duration::from_hours(1), ..Timeouts::default() },
            drain_timeout: Duration::from_hours(1),
            ..ServeOptions::default()
        },
    )
    .await;
    let request = format!("GET /keys HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(7000));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (mut read, mut write) = server.connect().await.into_stream().into_split();
        let all = request.repeat(1000);
        let writer = tokio::spawn(async move {
            write.write_all(all.as_bytes()).await.unwrap();
            write
        });
        let (mut answers, mut buffer) = (0, vec![0; 1 << 16]);
        while answers < 1000 {
            let length = read.read(&mut buffer).await.unwrap();
            assert!(length > 0, "closed");
            answers += buffer[..length].split(|byte| *byte == b'}').count() - 1;
        }
        clients.push((read, writer.await.unwrap()));
    }
    timeout(Duration::from_secs(10), server.stop()).await.expect("it hangs").unwrap();
}
