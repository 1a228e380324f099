//! A server in this process, whose clock stands still, and a client that blocks.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use token_orchestrator::http::{self, ServeOptions};
use token_orchestrator::key::{Label, Value};
use token_orchestrator::pool::{PoolId, Settings};
use token_orchestrator::store::{Leasing, Memory, Options, OwnKey, Store, StoreExt};
use token_orchestrator::time::ManualClock;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Far longer than any answer takes: a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    runtime: Runtime,
    pub(crate) store: Memory<ManualClock>,
    pub(crate) clock: ManualClock,
    address: SocketAddr,
    stream: Option<TcpStream>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Server {
    /// A server with room for so many keys.
    pub(crate) fn start(keys_max: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_251_199));
        let store = Memory::new(
            Options {
                settings: Settings { keys_max, ..Settings::default() },
                ..Options::default()
            },
            clock.clone(),
        );
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(store.clone().sweep());
        let serve = ServeOptions::default();
        let served = http::serve(listener, Arc::new(store.clone()), serve, std::future::pending());
        runtime.spawn(async { served.await.unwrap() });
        Self { runtime, store, clock, address, stream: None }
    }

    /// Creates a key, and returns its id.
    pub(crate) fn create(&self) -> String {
        self.runtime.block_on(self.store.create(1)).unwrap().ids[0].to_string()
    }

    /// Imports a key that has a value and a label, and returns its id.
    pub(crate) fn import(&self) -> String {
        let value = Value::new("sk-\"secret").unwrap();
        let own = OwnKey { value, labels: vec![Label::new("plan", "pro").unwrap()] };
        let imported = self.runtime.block_on(self.store.import(PoolId::DEFAULT, &[own]));
        imported.unwrap().ids[0].to_string()
    }

    /// Creates a key, leases it, and returns its id.
    pub(crate) fn lease(&self) -> String {
        let id = self.create();
        self.runtime.block_on(self.store.lease(Leasing::default())).unwrap();
        id
    }

    /// Sends a request on a connection that stays open.
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
        self.ask_with(method, path, fields.as_bytes(), body)
    }

    pub(crate) fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        fields: &[u8],
        body: &[u8],
    ) -> Answer {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n", body.len());
        let stream = self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        stream.write_all(&[head.as_bytes(), fields, b"\r\n", body].concat()).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let length = stream.read(&mut buffer).unwrap();
            assert!(
                length > 0,
                "the server closed the connection: {}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Answer { status, body: body.to_owned() };
            }
        }
    }

    /// Sends bytes on a connection of their own, cut in parts, and closes that half. Returns everything that
    /// comes back until the end, without the time of day. `first` is sent and answered before.
    pub(crate) fn exchange(&self, first: &str, bytes: &[u8], cuts: &[usize]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if !first.is_empty() {
            stream.write_all(first.as_bytes()).unwrap();
            let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
            while !answer.ends_with(b"}") {
                let length = stream.read(&mut buffer).unwrap();
                answer.extend_from_slice(&buffer[..length]);
            }
        }
        let mut at = 0;
        for cut in cuts {
            if stream.write_all(&bytes[at..*cut]).is_err() {
                break;
            }
            at = *cut;
            // The server then mostly reads this part alone.
            sleep(Duration::from_micros(300));
        }
        // It may be refused before it was sent.
        let _ = stream.write_all(&bytes[at..]);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answers) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs");
        }
        let answers = String::from_utf8_lossy(&answers).into_owned();
        answers.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    }
}
