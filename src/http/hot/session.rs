//! TLS in the event loop: what a socket brings is decrypted, and answers are encrypted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};

use rustix::io::{Errno, ioctl_fionread};
use rustls::ServerConnection;
use tokio::sync::mpsc;

/// The session of a connection over TLS, after its handshake. The thread that shook hands frees it, whichever ends it:
/// else its memory would not come back.
pub(in crate::http) struct Session {
    /// `None` only while it is dropped.
    connection: Option<Box<ServerConnection>>,
    owner: SessionOwner,
}

/// Takes the sessions of its thread when they have ended.
pub(in crate::http) type SessionOwner = mpsc::UnboundedSender<Box<ServerConnection>>;

impl Session {
    pub(in crate::http) fn new(connection: ServerConnection, owner: SessionOwner) -> Self {
        Self { connection: Some(Box::new(connection)), owner }
    }
}

impl Deref for Session {
    type Target = ServerConnection;

    fn deref(&self) -> &ServerConnection {
        self.connection.as_ref().expect("it is not dropped yet")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut ServerConnection {
        self.connection.as_mut().expect("it is not dropped yet")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A thread that has ended takes nothing; then it is freed here.
        let _ = self.connection.take().map(|connection| self.owner.send(connection));
    }
}

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
    // What there was no room for, or came with the handshake; the end of the input comes after it.
    if let Ok(length) = session.reader().read(input)
        && !input.is_empty()
    {
        let has_more = length == input.len() || has_ended(session) || ioctl_fionread(stream)? > 0;
        return Ok(Came { length, from_socket: 0, has_more: length > 0 && has_more });
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
    let has_more = from_socket == sealed.len() || has_ended(session);
    match session.reader().read(input) {
        Ok(length) => Ok(Came { length, from_socket, has_more: has_more || length == input.len() }),
        // More of it may have come.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && has_more => Err(Errno::INTR),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Errno::AGAIN),
        Err(_) => Ok(Came { length: 0, from_socket, has_more: false }),
    }
}

/// Whether the client has said that it sends no more. Nothing else may follow on the socket to tell of it.
fn has_ended(session: &mut Session) -> bool {
    session.process_new_packets().is_ok_and(|state| state.peer_has_closed())
}

/// Whether something was decrypted and not read yet.
pub(in crate::http) fn has_input(session: &mut Session) -> bool {
    session.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::generate_simple_self_signed;
    use rustls::ServerConfig;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    /// Memory comes back to the system only if the thread that took it frees it.
    #[test]
    fn a_session_that_ends_goes_to_the_thread_that_shook_hands() {
        let key = generate_simple_self_signed(["a".to_owned()]).unwrap();
        let secret = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], secret)
            .unwrap();
        let (owner, mut ended) = mpsc::unbounded_channel();
        let session = Session::new(ServerConnection::new(Arc::new(config)).unwrap(), owner);
        assert!(session.is_handshaking() && ended.try_recv().is_err());
        drop(session);
        assert!(ended.try_recv().is_ok());
    }
}
