//! Requests on so many connections, and so many at once on each, that the server always has some to
//! answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::client::Client;
use crate::over::SetOnDrop;

/// How many batches are on their way on each connection.
const BATCHES_AHEAD: usize = 2;
/// What ends a head. No body contains it.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What one thread of clients does.
#[derive(Clone, Copy)]
pub(super) struct Flood {
    pub(super) request: &'static str,
    /// How many requests are sent at once.
    pub(super) batch: usize,
    pub(super) connections: usize,
}

/// A connection whose answers are counted, and not read.
struct Pipe {
    stream: TcpStream,
    /// How much of [`HEAD_END`] has come.
    matched: usize,
    /// Answers that came ahead of those that were waited for.
    ahead: usize,
}

impl Pipe {
    /// Waits for the heads of so many answers.
    fn await_answers(&mut self, count: usize) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        while self.ahead < count {
            let read = self.stream.read(&mut bytes)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for byte in &bytes[..read] {
                self.matched = match *byte {
                    byte if byte == HEAD_END[self.matched] => self.matched + 1,
                    b'\r' => 1,
                    _ => 0,
                };
                if self.matched == HEAD_END.len() {
                    (self.matched, self.ahead) = (0, self.ahead + 1);
                }
            }
        }
        self.ahead -= count;
        Ok(())
    }
}

impl Flood {
    /// Requests that are expensive, and change nothing. They are not served by the hot path: the
    /// sweep shares its threads with them.
    pub(super) fn of_slow_requests(connections: usize) -> Self {
        Self { request: "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", batch: 1, connections }
    }

    /// Sends its requests until `is_over`, and returns how many answers came.
    fn run(self, address: SocketAddr, is_over: &AtomicBool) -> u64 {
        let batch = self.request.repeat(self.batch);
        let pipe = |_| {
            let mut stream = Client::to(address).stream;
            for _ in 0..BATCHES_AHEAD {
                stream.write_all(batch.as_bytes()).unwrap();
            }
            Pipe { stream, matched: 0, ahead: 0 }
        };
        let mut pipes: Vec<_> = (0..self.connections).map(pipe).collect();
        let mut answered = 0;
        while !is_over.load(Relaxed) {
            for pipe in &mut pipes {
                pipe.await_answers(self.batch).unwrap();
                pipe.stream.write_all(batch.as_bytes()).unwrap();
                answered += self.batch as u64;
            }
        }
        answered
    }
}

/// Does `work` while the floods run, each in a thread of its own.
pub(super) fn meanwhile<T>(address: SocketAddr, floods: &[Flood], work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let run = |flood: &Flood| {
            let (flood, is_over) = (*flood, &is_over);
            scope.spawn(move || flood.run(address, is_over))
        };
        let floods: Vec<_> = floods.iter().map(run).collect();
        let end = SetOnDrop(&is_over);
        let done = work();
        drop(end);
        let answers: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        println!("{answers} answers to the flood");
        done
    })
}
