//! Certificates that are made for one test, and clients that trust them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::Client;

/// A folder with `ca.pem`, and `cert.pem` with `key.pem` that this vouches for. Gone with its test.
pub(crate) struct Files {
    folder: PathBuf,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Files {
    pub(crate) fn new() -> Self {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tls-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        let ca = certificate.der().clone();
        let files = Self { folder, ca, issuer: Issuer::new(params, key) };
        files.renew();
        files
    }

    /// Writes another certificate and its key.
    pub(crate) fn renew(&self) {
        self.renew_as(&["localhost", "127.0.0.1"], |_| {});
    }

    /// Writes another certificate for these names, with something else about it, and its key.
    pub(crate) fn renew_as(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write("cert.pem", &certificate.pem());
        self.write("key.pem", &key.serialize_pem());
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// The options of a server that shows the certificate.
    pub(crate) fn options(&self) -> [String; 4] {
        ["--tls-cert".into(), self.path("cert.pem"), "--tls-key".into(), self.path("key.pem")]
    }

    /// A handshake in which the client offers these protocols.
    pub(crate) async fn handshake(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> TlsStream<TcpStream> {
        self.handshake_over(TcpStream::connect(address).await.unwrap(), protocols).await
    }

    /// The same over any stream.
    pub(crate) async fn handshake_over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        protocols: &[&str],
    ) -> TlsStream<S> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// A connection that speaks HTTP/1.1.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Client<TlsStream<TcpStream>> {
        Client::over(self.handshake(address, &["http/1.1"]).await)
    }

    /// The certificate that a new connection gets to see.
    pub(crate) async fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        shown_to(&self.handshake(address, &[]).await)
    }
}

/// The certificate that the server has shown.
pub(crate) fn shown_to(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
