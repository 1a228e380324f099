//! TLS in the event loop: what a socket brings is decrypted, and answers are encrypted.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustix::io::Errno;

/// The session of a connection over TLS, after its handshake.
pub(in crate::http) type Session = Box<rustls::ServerConnection>;

/// What a read has brought.
pub(super) struct Came {
    /// Bytes that were written to the buffer for input. None, after the end of the input.
    pub(super) length: usize,
    /// Bytes that were taken from the socket.
    pub(super) from_socket: usize,
    /// More may be there already.
    pub(super) has_more: bool,
}

/// Reads from a socket once.
///
/// # Errors
///
/// As `read(2)`: [`Errno::AGAIN`] if nothing is there.
pub(super) fn read_plain(stream: &TcpStream, input: &mut [u8]) -> Result<Came, Errno> {
    let length = rustix::io::read(stream, &mut *input)?;
    Ok(Came { length, from_socket: length, has_more: length == input.len() })
}

/// Reads from a socket once, and decrypts what that brought. `sealed` is room for it.
///
/// # Errors
///
/// As `read(2)`; [`Errno::AGAIN`] if no record is whole yet, [`Errno::PROTO`] if the client breaks the protocol.
pub(super) fn read_sealed(
    session: &mut Session,
    stream: &TcpStream,
    sealed: &mut [u8],
    input: &mut [u8],
) -> Result<Came, Errno> {
    // What there was no room for.
    if let Ok(length) = session.reader().read(input)
        && length > 0
    {
        return Ok(Came { length, from_socket: 0, has_more: true });
    }
    let from_socket = rustix::io::read(stream, &mut *sealed)?;
    if from_socket == 0 {
        return Ok(Came { length: 0, from_socket, has_more: false });
    }
    let mut rest = &sealed[..from_socket];
    while !rest.is_empty() {
        let taken = session.read_tls(&mut rest).map_err(|_| Errno::PROTO)?;
        if session.process_new_packets().is_err() || taken == 0 {
            // It says why to the client.
            let _ = send(session, stream);
            return Err(Errno::PROTO);
        }
    }
    let has_more = from_socket == sealed.len();
    match session.reader().read(input) {
        Ok(length) => Ok(Came { length, from_socket, has_more: has_more || length == input.len() }),
        // More of it may have come.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && has_more => Err(Errno::INTR),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Errno::AGAIN),
        Err(_) => Ok(Came { length: 0, from_socket, has_more: false }),
    }
}

/// Encrypts answers, and sends them as far as the socket takes them. O(length).
///
/// # Errors
///
/// If the client has gone.
pub(super) fn write_sealed(
    session: &mut Session,
    stream: &TcpStream,
    answers: &[u8],
) -> Result<(), Errno> {
    // The session has no limit here: nothing is read while answers wait in it.
    session.writer().write_all(answers).map_err(|_| Errno::PIPE)?;
    send(session, stream)
}

/// Sends what was encrypted, as far as the socket takes it. O(length).
///
/// # Errors
///
/// If the client has gone.
pub(super) fn send(session: &mut Session, stream: &TcpStream) -> Result<(), Errno> {
    while session.wants_write() {
        match session.write_tls(&mut &*stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(_) => return Err(Errno::PIPE),
        }
    }
    Ok(())
}
