//! hyper alone, with one fixed answer as long as that to `GET /keys`: what a request costs without
//! the pool, the routes and the JSON. For `loadtest/run --compare`.

use std::convert::Infallible;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY: &[u8] = br#"{"keyId":"936da01f-9abd-4d9d-80c7-02af85c822a8"}"#;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).expect("an address to listen on");
    let listener = TcpListener::bind(address).await?;
    let service = service_fn(async |_| {
        let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok::<_, Infallible>(response)
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut builder = Builder::new();
        builder.pipeline_flush(true);
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
    }
}
