//! A blocking client that sends exactly the given bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any timeout of the server: a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What came after the answers that were read.
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// All before the body, as it came, without the empty line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.into_iter().find_map(|(known, value)| (known == name).then_some(value))
    }
}

/// What `GET /stats` has said.
#[derive(Debug)]
pub(crate) struct Stats(Value);

impl Stats {
    pub(crate) fn of(answer: &Answer) -> Self {
        Self(serde_json::from_str(&answer.body).unwrap())
    }

    /// What does not add up, if anything does not.
    pub(crate) fn wrong_sum(&self) -> Option<&'static str> {
        let n = |name| self.number(name);
        let ended = n("released") + n("leaseTimeouts") + n("leasesLost");
        let sums = [
            ("keys: free, blocked, cooling", n("keys"), n("free") + n("blocked") + n("cooling")),
            (
                "created: expired, deleted, keys",
                n("created"),
                n("expired") + n("deleted") + n("keys"),
            ),
            ("leased: ended, blocked", n("leased"), ended + n("blocked")),
        ];
        let wrong = sums.into_iter().find_map(|(sum, all, parts)| (all != parts).then_some(sum));
        wrong.or_else(|| (n("blocked") > n("keys")).then_some("blocked exceeds keys"))
    }

    /// The count or the total that goes by that name.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let found = self.0.get(name).or_else(|| self.0["totals"].get(name));
        found.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}

impl Client {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::try_to(address).unwrap()
    }

    /// As [`Client::to`], to a server that may be gone.
    pub(crate) fn try_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The server's counts.
    pub(crate) fn stats(&mut self) -> Stats {
        Stats::of(&self.send("GET", "/stats", "").unwrap())
    }

    /// Sends a request and reads the answer to it.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{length}\r\n{body}");
        self.stream.write_all(text.as_bytes())?;
        self.read()
    }

    /// Sends requests at once and reads the answers to them, of which there are `count`.
    pub(crate) fn pipeline(&mut self, requests: &str, count: usize) -> Vec<Answer> {
        self.stream.write_all(requests.as_bytes()).unwrap();
        (0..count).map(|_| self.read().unwrap()).collect()
    }

    /// The next answer, to anything but HEAD.
    ///
    /// # Errors
    ///
    /// If the connection ends before it is complete.
    pub(crate) fn read(&mut self) -> io::Result<Answer> {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.buffer[..head_end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {head}"));
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let body = head_end + 4..head_end + 4 + length;
        while self.buffer.len() < body.end {
            self.fill()?;
        }
        answer.body = String::from_utf8_lossy(&self.buffer[body.clone()]).into_owned();
        self.buffer.drain(..body.end);
        Ok(answer)
    }

    /// Reads no more than the beginning of the next answer, which must be on its way.
    pub(crate) fn read_beginning(&mut self) {
        if self.buffer.is_empty() {
            // A client that wants no more does not care how the read ends.
            let _ = self.stream.read(&mut [0; 30]);
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.buffer.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }
}
