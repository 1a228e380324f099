//! A connection as hyper reads and writes it, with or without TLS.
//!
//! `tokio-rustls` makes no stream of a session that exists already, and sessions come from the hot path and go there.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf};

use super::peer::{Output, Peer};
use crate::http::hot::Session;

/// The halves of a socket.
pub(super) type Socket = Join<Peer, Output>;

/// How much is encrypted before the client takes it, in bytes.
const ENCRYPTED_BYTES_MAX: usize = 64 * 1024;

/// A socket, and the session of its TLS, if there is one.
pub(super) struct Line {
    socket: Socket,
    session: Option<Session>,
    /// The client was told that nothing more follows.
    has_ended: bool,
}

impl Line {
    pub(super) fn new(socket: Socket, mut session: Option<Session>) -> Self {
        if let Some(session) = &mut session {
            session.set_buffer_limit(Some(ENCRYPTED_BYTES_MAX));
        }
        Self { socket, session, has_ended: false }
    }

    /// The session, which outlives this.
    pub(super) fn into_session(self) -> Option<Session> {
        self.session
    }
}

/// A socket for rustls, which knows no tasks.
struct Blocking<'a, 'b> {
    socket: &'a mut Socket,
    cx: &'a mut Context<'b>,
}

/// `WouldBlock` for what is not ready: the task is woken when it is.
fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Pending for `WouldBlock`.
fn or_pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        or_would_block(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what was encrypted.
fn poll_send(
    session: &mut Session,
    socket: &mut Socket,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while session.wants_write() {
        ready!(or_pending(session.write_tls(&mut Blocking { socket, cx })))?;
    }
    Poll::Ready(Ok(()))
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, session, .. } = self.get_mut();
        let Some(session) = session else { return Pin::new(socket).poll_read(cx, buffer) };
        loop {
            match session.reader().read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|length| buffer.advance(length))),
            }
            ready!(or_pending(session.read_tls(&mut Blocking { socket, cx })))?;
            if let Err(error) = session.process_new_packets() {
                // It says why to the client.
                let _ = poll_send(session, socket, cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }
}

impl Line {
    /// Encrypts what `write` takes, and sends it as far as the socket takes it.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Some(session) = &mut self.session else { return Poll::Ready(Ok(0)) };
        loop {
            let length = write(&mut session.writer())?;
            let sent = poll_send(session, &mut self.socket, cx)?;
            if length > 0 {
                return Poll::Ready(Ok(length));
            }
            ready!(sent);
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.session {
            None => Pin::new(&mut self.socket).poll_write(cx, bytes),
            Some(_) => self.poll_encrypt(cx, |writer| writer.write(bytes)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        match self.session {
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, parts),
            Some(_) => self.poll_encrypt(cx, |writer| writer.write_vectored(parts)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, session, .. } = self.get_mut();
        match session {
            None => Pin::new(socket).poll_flush(cx),
            Some(session) => poll_send(session, socket, cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, session, has_ended } = self.get_mut();
        if let Some(session) = session {
            if !*has_ended {
                session.send_close_notify();
                *has_ended = true;
            }
            ready!(poll_send(session, socket, cx))?;
        }
        Pin::new(socket).poll_shutdown(cx)
    }
}
