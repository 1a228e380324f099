//! The client at the other end of a connection that hyper serves.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use crate::http::api::{Client, Turns};
use crate::http::wire::HEAD_BYTES_MAX;

/// A socket that hyper reads and writes, while handlers may ask whether the client has gone.
#[derive(Clone)]
pub(super) struct Peer {
    socket: Arc<TcpStream>,
    /// How many requests of its address may wait for a key.
    turns: Turns,
}

impl Peer {
    pub(super) fn new(stream: TcpStream, turns: Turns) -> Self {
        Self { socket: Arc::new(stream), turns }
    }

    /// The socket, if no handler uses it any more.
    pub(super) fn into_socket(self) -> Option<std::net::TcpStream> {
        Arc::into_inner(self.socket)?.into_std().ok()
    }

    /// Ready when the client has sent something, or has gone.
    pub(super) async fn sends(&self) {
        // If the socket has failed, the next read reports it.
        let _ = self.socket.readable().await;
    }

    /// Reads what has arrived, up to the longest head, whatever tokio knows of the socket: that may be nothing
    /// yet. False if there is nothing to answer.
    pub(super) fn read_now(&self, read: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 1024];
        while read.len() < HEAD_BYTES_MAX
            && let Ok(length) = rustix::io::read(&*self.socket, &mut buffer)
            && length > 0
        {
            read.extend_from_slice(&buffer[..length]);
        }
        !read.is_empty()
    }

    /// What handlers see of it. `is_shared` if several requests at once share the connection.
    pub(super) fn client(&self, is_shared: bool) -> Client {
        Client::new(Arc::clone(&self.socket), is_shared, self.turns.clone())
    }

    /// Calls `act` as soon as the socket is ready for it.
    fn poll<T>(
        cx: &mut Context<'_>,
        ready: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
        mut act: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(ready(cx))?;
            match act() {
                // It cleared tokio's readiness, so the next round waits for it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let mut some = None;
        let read = || {
            let all = self.socket.try_io(Interest::READABLE, || {
                match rustix::io::read(&*self.socket, &mut *room)? {
                    // A short read has emptied the socket. `WouldBlock` tells tokio so, which saves
                    // another read; its own `TcpStream` does the same. The kernel reports more input.
                    length if 0 < length && length < room.len() => {
                        some = Some(length);
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                    length => Ok(length),
                }
            });
            some.map_or(all, Ok)
        };
        let length = ready!(Self::poll(cx, |cx| self.socket.poll_read_ready(cx), read))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// The sending half of a connection. A write fails once the client has received nothing for too long.
pub(super) struct Output {
    peer: Peer,
    patience: Duration,
    activity: Arc<Activity>,
    /// Runs while the client receives nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Output {
    pub(super) fn new(peer: Peer, patience: Duration, activity: Arc<Activity>) -> Self {
        Self { peer, patience, activity, timer: None }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.peer.socket;
        let written = Peer::poll(cx, |cx| socket.poll_write_ready(cx), || write(socket));
        if written.is_ready() {
            if self.timer.take().is_some() {
                self.activity.set_blocked(false);
            }
            return written;
        }
        self.activity.set_blocked(true);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll(cx, |socket| socket.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&*self.peer.socket, Shutdown::Write).map_err(io::Error::from))
    }
}
