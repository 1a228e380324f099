//! A server on a real socket with a manual clock, and a client that sends exactly what it is told.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::io::ioctl_fionread;
use token_orchestrator::http::{self, Listeners, ServeOptions, Timeouts};
use token_orchestrator::store::{Diagnose, Memory, Options, Store};
use token_orchestrator::time::ManualClock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

/// 2024-02-29T23:59:59.500Z.
pub(crate) const WALL_AT_ORIGIN: Duration = Duration::from_millis(1_709_251_199_500);

pub(crate) struct Server<S = Memory<ManualClock>> {
    pub(crate) store: S,
    pub(crate) clock: ManualClock,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    /// With a store in memory and its sweep.
    pub(crate) async fn start(options: Options, serve: ServeOptions) -> Self {
        let server = Self::unswept(options, serve).await;
        tokio::spawn(server.store.clone().sweep());
        server
    }

    /// With a store in memory that nothing sweeps.
    pub(crate) async fn unswept(options: Options, serve: ServeOptions) -> Self {
        let clock = clock();
        let store = Memory::new(options, clock.clone());
        let diagnose = Some(Arc::new(store.clone()) as Arc<dyn Diagnose>);
        Self::over(store, clock, ServeOptions { diagnose, ..serve }).await
    }

    pub(crate) async fn default() -> Self {
        Self::start(Options::default(), ServeOptions::default()).await
    }
}

/// Waits until `condition` is true, which must be soon.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Serves an empty store for clients and for operators, each at an address of their own, until the test ends.
pub(crate) async fn at_two_addresses(options: ServeOptions) -> [SocketAddr; 2] {
    let main = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [&main, &admin].map(|listener| listener.local_addr().unwrap());
    let store = Arc::new(Memory::new(Options::default(), ManualClock::default()));
    let listeners = Listeners { main, admin: Some(admin) };
    tokio::spawn(http::serve(listeners, store, options, pending()));
    addresses
}

/// Timeouts of this many milliseconds.
pub(crate) fn impatient(ms: u64) -> Timeouts {
    let timeout = Duration::from_millis(ms);
    Timeouts { idle: timeout, head: timeout }
}

/// A clock that shows [`WALL_AT_ORIGIN`].
pub(crate) fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + WALL_AT_ORIGIN)
}

impl<S: Store + Clone> Server<S> {
    /// With any store, whose time is the clock's.
    pub(crate) async fn over(store: S, clock: ManualClock, serve: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = http::serve(listener, Arc::new(store.clone()), serve, async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async { served.await.unwrap() });
        Self { store, clock, address, stop, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::to(self.address).await
    }

    /// A connection that speaks HTTP/2 from its first byte.
    pub(crate) async fn connect_http2(&self) -> SendRequest<Full<Bytes>> {
        http2(TcpStream::connect(self.address).await.unwrap()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.connect().await.send(method, path, body).await
    }

    pub(crate) async fn create(&self) -> String {
        let answer = self.send("POST", "/keys", "").await;
        assert_eq!(answer.status, 201);
        answer.body.split('"').nth(3).unwrap().to_owned()
    }

    /// Asks the server to end; its task then tells when it has.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.stop.send(()).unwrap();
        self.task
    }
}

/// Speaks HTTP/2 from the first byte.
pub(crate) async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(stream);
    let (sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) struct Client<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// All before the body, as it came.
    pub(crate) head: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Client {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl Client {
    /// Whether nothing has come by now.
    pub(crate) fn has_nothing(&self) -> bool {
        self.buffer.is_empty() && ioctl_fionread(&self.stream).unwrap() == 0
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        self.write(&format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{length}\r\n{body}")).await;
        self.read(method).await
    }

    /// A request without a body, with more fields, each with its line's end.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, fields: &str) -> Answer {
        self.write(&format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).await;
        self.read(method).await
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Closes the half that it sends by.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer, to a request of this method.
    pub(crate) async fn read(&mut self, method: &str) -> Answer {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(self.fill().await, "the server hung up before its answer");
        };
        let head = String::from_utf8(self.buffer[..head_end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = match method {
            "HEAD" => 0,
            _ => length.map_or(0, |(_, value)| value.parse().unwrap()),
        };
        while self.buffer.len() < head_end + 4 + length {
            assert!(self.fill().await, "the server hung up in its answer");
        }
        let rest = self.buffer.split_off(head_end + 4 + length);
        let body = String::from_utf8_lossy(&self.buffer.split_off(head_end + 4)).into_owned();
        self.buffer = rest;
        Answer { status, head, headers, body }
    }

    /// Whether a GET is answered at all.
    pub(crate) async fn answers(&mut self, path: &str) -> bool {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.is_ok() && self.fill().await
    }

    /// The socket alone.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// Whether the server has closed the connection, without a word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }

    async fn fill(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0)
    }
}
