//! Hot requests are answered ahead of hyper and the router, with the same bytes.

use std::collections::HashSet;

use http_body_util::{BodyExt, Full};
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Options, Store};

use crate::client::{Answer, Client, Server};

/// Head and body, but for the time of day and the digits of the generation, which each lease moves.
pub(crate) fn bytes(answer: &Answer) -> String {
    let lines = answer.head.split("\r\n").filter(|line| !line.starts_with("date: "));
    let lines = lines.map(|line| match line.strip_prefix("etag: ") {
        Some(tag) => format!("etag: {}", tag.replace(|c: char| c.is_ascii_digit(), "")),
        None => line.to_owned(),
    });
    format!("{}\r\n\r\n{}", lines.collect::<Vec<_>>().join("\r\n"), answer.body)
}

/// Sends a request in a way that the hot path does not take: with a body that is ignored.
async fn send_slowly(client: &mut Client, method: &str, path: &str) -> Answer {
    client.send(method, path, "{}").await
}

#[tokio::test]
async fn every_route_answers_the_same_bytes_whichever_path_it_took() {
    let server = Server::default().await;
    let (hot, slow) = (&mut server.connect().await, &mut server.connect().await);
    let id = server.create().await;
    let upper = id.to_uppercase();
    let unknown = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    let mut answers = Vec::new();
    for (method, path) in [
        ("GET", format!("/keys/{id}")),
        ("GET", "/keys".to_owned()),
        ("GET", format!("/keys/{id}")),
        ("GET", format!("/keys/{upper}")),
        ("PUT", format!("/keepalive/{id}")),
        ("PUT", format!("/keys/{id}")),
        ("GET", format!("/keys/{unknown}")),
        ("PUT", format!("/keys/{unknown}")),
        ("PUT", format!("/keepalive/{unknown}")),
        ("DELETE", format!("/keys/{unknown}")),
    ] {
        let first = hot.send(method, &path, "").await;
        if path == "/keys" {
            // The pool has but one key: it is leased for each path in turn, and then for neither.
            let none = bytes(&hot.send(method, &path, "").await);
            assert_eq!(none, bytes(&send_slowly(slow, method, &path).await));
            assert!(none.starts_with("HTTP/1.1 404 Not Found\r\n"), "{none}");
            hot.send("PUT", &format!("/keys/{id}"), "").await;
        }
        let second = send_slowly(slow, method, &path).await;
        assert_eq!(bytes(&first), bytes(&second), "{method} {path}");
        assert!(first.header("date").is_some_and(|date| date.ends_with(" GMT")));
        answers.push(bytes(&first));
    }
    let deleted = hot.send("DELETE", &format!("/keys/{id}"), "").await;
    let id = server.create().await;
    assert_eq!(bytes(&deleted), bytes(&send_slowly(slow, "DELETE", &format!("/keys/{id}")).await));
    assert!(answers.iter().any(|answer| answer.contains("true")));
}

#[tokio::test]
async fn a_connection_goes_from_one_path_to_the_other_within_a_pipeline() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect().await;
    let requests = [
        &format!("PUT /keepalive/{id} HTTP/1.1\r\n\r\n"),
        "GET /keys HTTP/1.1\r\nUser-Agent: x\r\nConnection: keep-alive\r\n\r\n",
        "POST /keys HTTP/1.1\r\nContent-Length: 11\r\n\r\n{\"count\":2}",
        "GET /keys HTTP/1.1\r\n\r\n",
    ];
    client.write(&requests.concat()).await;
    for status in [200, 200, 201, 200] {
        assert_eq!(client.read("GET").await.status, status);
    }
}

#[tokio::test]
async fn leases_in_a_pipeline_are_answered_one_by_one_and_in_their_order() {
    let server = Server::default().await;
    let ids: HashSet<_> =
        [server.create().await, server.create().await, server.create().await].into();
    let mut client = server.connect().await;
    let one = ids.iter().next().unwrap();
    let get = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";
    let show = format!("GET /keys/{one} HTTP/1.1\r\nHost: a\r\n\r\n");
    let delete = format!("DELETE /keys/{one} HTTP/1.1\r\nHost: a\r\n\r\n");
    let put = format!("PUT /keys/{one} HTTP/1.1\r\nHost: a\r\n\r\n");
    client
        .write(&[&show, get, get, get, get, get, &show, &put, get, get, &delete, get].concat())
        .await;
    assert!(client.read("GET").await.body.contains("false"));
    let mut leased = HashSet::new();
    for _ in 0..3 {
        leased.insert(client.read("GET").await.json()["keyId"].as_str().unwrap().to_owned());
    }
    assert_eq!(leased, ids);
    for _ in 0..2 {
        let none = client.read("GET").await;
        assert_eq!((none.status, none.body.as_str()), (404, "{}"));
    }
    assert!(client.read("GET").await.body.contains("true"));
    assert_eq!(client.read("PUT").await.status, 200);
    assert_eq!(client.read("GET").await.json()["keyId"], *one.as_str());
    let rest = [client.read("GET").await, client.read("DELETE").await, client.read("GET").await];
    assert_eq!(rest.map(|answer| answer.status), [404, 200, 404]);
}

#[tokio::test]
async fn requests_that_arrive_in_pieces_are_put_together() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect().await;
    let request = format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n");
    for piece in request.repeat(3).as_bytes().chunks(7) {
        client.write(std::str::from_utf8(piece).unwrap()).await;
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert_eq!(client.read("GET").await.status, 200);
    }
}

#[tokio::test]
async fn a_pipeline_longer_than_the_buffer_is_answered_in_full() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect().await;
    let request = format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write(&request.repeat(2000)).await;
    for _ in 0..2000 {
        assert_eq!(client.read("GET").await.status, 200);
    }
}

#[tokio::test]
async fn what_is_unusual_is_left_to_hyper() {
    let server = Server::default().await;
    let id = server.create().await;
    let path = format!("/keys/{id}");
    for fields in [
        "Connection: close",
        "Content-Length: 00",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: x",
    ] {
        let mut client = server.connect().await;
        client.write(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).await;
        if fields.starts_with("Transfer") {
            client.write("0\r\n\r\n").await;
        }
        let answer = client.read("GET").await;
        assert_eq!(answer.status, 200, "{fields}");
        if fields == "Connection: close" {
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(client.is_closed().await);
        }
    }
    let mut client = server.connect().await;
    client.write(&format!("GET {path} HTTP/1.0\r\n\r\n")).await;
    assert_eq!(client.read("GET").await.status, 200);
    assert!(client.is_closed().await, "HTTP/1.0 ends with the answer");
    for head in ["GET /keys HTTP/9.9\r\n\r\n", "GET  /keys HTTP/1.1\r\n\r\n", "\u{1}\r\n\r\n"] {
        let mut client = server.connect().await;
        client.write(head).await;
        assert_eq!(client.read("GET").await.status, 400, "{head}");
    }
    assert_eq!(server.store.stats().await.unwrap().free, 1);
}

#[tokio::test]
async fn a_connection_that_brings_nothing_is_closed() {
    let head_timeout = std::time::Duration::from_millis(20);
    let serve = ServeOptions { head_timeout, ..Default::default() };
    let server = Server::start(Options::default(), serve).await;
    assert!(server.connect().await.is_closed().await);
    let mut client = server.connect().await;
    client.send("GET", "/keys", "").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect_http2().await;
    for (method, path, status) in [
        ("GET", "/keys".to_owned(), 200),
        ("GET", "/keys".to_owned(), 404),
        ("HEAD", "/keys".to_owned(), 405),
        ("PUT", format!("/keys/{id}"), 200),
        ("GET", format!("/keys/{id}"), 200),
        ("DELETE", format!("/keys/{id}"), 200),
        ("POST", "/keys".to_owned(), 201),
    ] {
        let request = hyper::Request::builder().method(method).uri(format!("http://test{path}"));
        let request = request.body(Full::default()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(method == "HEAD" || body.starts_with(b"{"), "{body:?}");
    }
}
