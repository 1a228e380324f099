//! The TLS handshake.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::tls::{H2, Tls};
use crate::http::hot::{Session, SessionOwner};
use crate::http::wire::HTTP2_PREFACE;

/// A connection after its handshake.
pub(super) struct Secured {
    pub(super) session: Session,
    /// What was read after the handshake.
    pub(super) read: Vec<u8>,
    /// The client chose HTTP/2 by ALPN. One that chose nothing speaks HTTP/1.1: over TLS, HTTP/2 must be
    /// chosen.
    pub(super) is_http2: bool,
}

/// Agrees with a client on keys and a protocol. The session ends at `owner`. The caller limits how long that may take.
///
/// # Errors
///
/// If the client speaks no TLS, or none that is safe, or goes away.
pub(super) async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
    tls: &Tls,
    stream: T,
    owner: SessionOwner,
) -> io::Result<Secured> {
    let mut stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
    // The preface is read here, within the caller's limit: hyper would wait for it for ever.
    let mut read = vec![0; if is_http2 { HTTP2_PREFACE.len() } else { 0 }];
    stream.read_exact(&mut read).await?;
    let session = Session::new(stream.into_inner().1, owner);
    Ok(Secured { session, read, is_http2 })
}
