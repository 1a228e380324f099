//! Hot requests are answered ahead of hyper and the router, with the same bytes.

use std::collections::HashSet;

use http_body_util::{BodyExt, Full};
use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Options, StoreExt};

use crate::client::{Answer, Client, Server, impatient, until};

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

/// A field that leaves a request to hyper and the router, and changes nothing.
pub(crate) const SLOW: &str = "Connection: x\r\n";

/// Fences and parameters, creations and waiting: the cycle of a careful client, in the same steps on either
/// path.
#[tokio::test]
async fn a_careful_cycle_has_the_same_answers_whichever_path_it_took() {
    let mut both = Vec::new();
    for path in ["", SLOW] {
        let server = Server::default().await;
        let mut client = server.connect().await;
        let mut send = async |method: &str, target: &str, fields: &str| {
            client
                .write(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}{path}\r\n"))
                .await;
            client.read(method).await
        };
        let created = send("POST", "/keys", "").await;
        let id = created.json()["keyId"].as_str().unwrap().to_owned();
        assert_eq!(created.header("location"), Some(&*format!("/keys/{id}")));
        let key = format!("/keys/{id}");
        let mut answers = vec![created];
        let mut tag = String::new();
        for (method, target, fence) in [
            ("GET", "/keys?lease=5s&wait=1s", ""),
            ("GET", "/keys?lease=5s", ""),
            ("PUT", "KEY/lease?lease=30s", "now"),
            ("PUT", "KEY/lease", "\"999\""),
            ("PUT", "KEY?cooldown=2s", "\"999\""),
            ("DELETE", "KEY", "\"999\""),
            ("PUT", "KEY?cooldown=2s", "now"),
            ("PUT", "KEY/lease", "now"),
            ("PUT", "KEY/lease", "*"),
            ("PUT", "KEY", ""),
            ("PUT", "KEY/lease", ""),
            ("GET", "/keys?wait=1s", ""),
            ("PUT", "KEY", "7x"),
            ("PUT", "KEY", "now"),
            ("DELETE", "KEY", "*"),
            ("DELETE", "KEY", "*"),
            ("PUT", "KEY/lease", "now"),
            ("PUT", "KEY?cooldown=2s", ""),
        ] {
            let fence = if fence == "now" { &tag } else { fence };
            let field = match fence {
                "" => String::new(),
                fence => format!("If-Match: {fence}\r\n"),
            };
            let answer = send(method, &target.replace("KEY", &key), &field).await;
            tag = answer.header("etag").map_or(tag, str::to_owned);
            answers.push(answer);
        }
        let texts: Vec<_> = answers.iter().map(|answer| bytes(answer).replace(&id, "ID")).collect();
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(
            statuses,
            [
                201, 200, 404, 200, 412, 412, 412, 200, 412, 409, 200, 409, 200, 400, 200, 200,
                404, 404, 404
            ]
        );
        both.push(texts);
    }
    assert_eq!(both[0], both[1]);
}

/// A client waits in the queue, whichever path it took; what ends the wait is the same on both.
#[tokio::test]
async fn waiting_has_the_same_answers_whichever_path_it_took() {
    let mut both = Vec::new();
    for path in ["", SLOW] {
        let server = Server::default().await;
        let id = server.create().await;
        assert_eq!(server.send("GET", "/keys", "").await.status, 200);
        let wait = format!("GET /keys?wait=10s HTTP/1.1\r\nHost: a\r\n{path}\r\n");
        let waiting = async |number| {
            until("they wait", async || server.store.stats().await.unwrap().waiting == number)
                .await;
        };
        let mut answers = Vec::new();
        // Freed.
        let mut client = server.connect().await;
        client.write(&wait).await;
        waiting(1).await;
        server.send("PUT", &format!("/keys/{id}"), "").await;
        answers.push(client.read("GET").await);
        // In vain.
        client.write(&wait).await;
        waiting(1).await;
        server.clock.advance_ms(10_000);
        answers.push(client.read("GET").await);
        // Given up: by closing one half, and by hanging up.
        client.write(&wait).await;
        waiting(1).await;
        client.end().await;
        answers.push(client.read("GET").await);
        assert!(client.is_closed().await);
        let mut client = server.connect().await;
        client.write(&wait).await;
        waiting(1).await;
        drop(client);
        waiting(0).await;
        assert_eq!(server.store.stats().await.unwrap().free, 0);
        // Stopped.
        let mut client = server.connect().await;
        client.write(&wait).await;
        waiting(1).await;
        let stopped = server.stop();
        answers.push(client.read("GET").await);
        assert!(client.is_closed().await);
        stopped.await.unwrap();
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 404, 404, 503]);
        let of_path =
            |answer| bytes(answer).replace(&id, "ID").replace("connection: close\r\n", "");
        both.push(answers.iter().map(of_path).collect::<Vec<_>>());
    }
    assert_eq!(both[0], both[1]);
}

#[tokio::test]
async fn a_connection_goes_from_one_path_to_the_other_within_a_pipeline() {
    let server = Server::default().await;
    let id = server.create().await;
    let mut client = server.connect().await;
    let requests = [
        &format!("PUT /keepalive/{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET /keys HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nConnection: keep-alive\r\n\r\n",
        "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n{\"count\":2}",
        "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
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
    let serve = ServeOptions { timeouts: impatient(20), ..Default::default() };
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
