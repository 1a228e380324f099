//! What hyper's connections do, as far as tests of the whole server cannot see it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{Handler, Server};
use super::permits::Permits;
use crate::http::api::Timeouts;
use crate::http::hot::{Mailbox, Transfer};

/// Answers everything.
struct Yes;

impl Handler for Yes {
    fn handle(self: &Arc<Self>, _: Request) -> impl Future<Output = Response> + Send + use<> {
        async { "yes".into_response() }
    }
}

fn server(draining: &watch::Receiver<()>) -> Server<Yes> {
    Server::new(Yes, Timeouts::default(), None, draining.clone())
}

/// What a new connection is answered by a server that stops, if `read` was read of it and `arrived` was not.
async fn answer_at_a_stop(read: &[u8], arrived: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = listener.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    client.write_all(arrived).unwrap();
    let place = Permits::new(1).try_enter(([127, 0, 0, 1], 1).into()).unwrap();
    let connection =
        Transfer { stream, session: None, read: read.to_vec(), is_new: true, place, home: None };
    let (stop, stopped) = watch::channel(());
    stop.send_replace(());
    let server = Arc::new(server(&stopped));
    let mut tasks = JoinSet::new();
    server.spawn(&mut tasks, connection, stopped, &mpsc::unbounded_channel().0);
    while tasks.join_next().await.is_some() {}
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_new_connection_whose_request_has_arrived_is_answered_at_a_stop() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for length in [0, 2, 7] {
        let answer = answer_at_a_stop(&request[..length], &request[length..]).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{length}: {answer}");
    }
}

#[tokio::test]
async fn a_new_connection_without_a_request_ends_at_a_stop() {
    assert_eq!(answer_at_a_stop(b"", b"").await, "");
}

/// After a request that is not hot, the next hot one brings the connection back, with what has come of the request
/// after it, and long before the client rests.
#[tokio::test]
async fn a_hot_request_brings_its_connection_back() {
    let cold = "PUT /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    let hot = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = listener.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    client.write_all(hot.repeat(2).as_bytes()).unwrap();
    client.write_all(b"GET /ke").unwrap();
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let place = Permits::new(1).try_enter(([127, 0, 0, 1], 1).into()).unwrap();
    let (read, home) = (cold.as_bytes().to_vec(), Some(Arc::clone(&mailbox)));
    let (_stop, stopped) = watch::channel(());
    let server = Arc::new(server(&stopped));
    let mut tasks = JoinSet::new();
    server.spawn(
        &mut tasks,
        Transfer { stream, session: None, read, is_new: false, place, home },
        stopped,
        &mpsc::unbounded_channel().0,
    );
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(before.elapsed(), std::time::Duration::ZERO, "it did not rest");
    let back = mailbox.take_arrivals();
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].read, b"GET /ke");
    let mut answers = vec![0; 4096];
    let length = client.read(&mut answers).unwrap();
    let answers = String::from_utf8_lossy(&answers[..length]);
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
}
