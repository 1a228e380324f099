//! Records of TLS that come in pieces, and answers that wait for a client: both in the event loop of the hot path.

use std::pin::Pin;
use std::task::{Context, Poll};

use token_orchestrator::store::StoreExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::tls::default;

/// Sends each byte in a packet of its own.
struct Trickle(TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..1.min(bytes.len())])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn records_that_come_byte_by_byte_are_read() {
    let (files, server) = default().await;
    let id = server.store.create(1).await.unwrap().ids[0];
    let stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = Client::over(files.handshake_over(Trickle(stream), &["http/1.1"]).await);
    for (method, path, body) in [
        ("GET", "/keys".to_owned(), ""),
        ("PUT", format!("/keys/{id}"), "{}"),
        ("GET", format!("/keys/{id}"), ""),
        ("PUT", "/keepalive".to_owned(), "{\"keyIds\":[]}"),
        ("PUT", format!("/keepalive/{id}"), ""),
    ] {
        assert_eq!(client.send(method, &path, body).await.status, 200, "{method} {path}");
    }
}

/// So many answers that they wait in the session for a client that does not read, again and again; among them
/// requests that lead the connection to the router, with the session and with what has come already.
#[tokio::test]
async fn a_long_pipeline_goes_from_one_path_to_the_other() {
    let (files, server) = default().await;
    let id = server.store.create(1).await.unwrap().ids[0];
    let show = format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n");
    let cold = "PUT /keepalive HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n{\"keyIds\":[]}";
    let part = format!("{}{cold}{show}", show.repeat(3000));
    let stream = files.handshake(server.address, &["http/1.1"]).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let writer = tokio::spawn(async move {
        for _ in 0..4 {
            write.write_all(part.as_bytes()).await.unwrap();
        }
        write
    });
    let (mut answers, wanted) = (String::new(), 4 * 3002);
    let mut buffer = vec![0; 1 << 14];
    // It reads far more slowly than the server answers.
    while answers.matches("HTTP/1.1 200 OK\r\n").count() < wanted {
        let length = read.read(&mut buffer).await.unwrap();
        assert!(length > 0, "closed");
        answers.push_str(str::from_utf8(&buffer[..length]).unwrap());
    }
    let bodies: Vec<_> = answers.split("\r\n\r\n").skip(1).collect();
    for (n, body) in bodies.iter().enumerate() {
        let is_cold = n % 3002 == 3000;
        assert_eq!(body.starts_with("{\"missing\""), is_cold, "{n}: {body}");
    }
    drop(writer.await.unwrap());
}
