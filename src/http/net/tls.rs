//! The server's certificate and its key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, SliceReader, Tag, Tagged};
use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, ServerConfig};

use crate::config::{read_file, unusable};

/// HTTP/2, as ALPN names it.
pub(in crate::http) const H2: &[u8] = b"h2";
/// HTTP/1.1, as ALPN names it.
const HTTP_1_1: &[u8] = b"http/1.1";

/// A certificate and its key, from files that can be reloaded while connections go on.
///
/// Clones share what was loaded last.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Pair>,
}

struct Pair {
    config: Arc<ServerConfig>,
    expires_at: Option<SystemTime>,
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and the key of that one. Both files are
    /// PEM, and may be the same. The key is one of PKCS #8, SEC 1 or PKCS #1 (RSA).
    ///
    /// # Errors
    ///
    /// If a file cannot be read, has no usable certificate or key, or the key does not belong to the
    /// certificate.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> io::Result<Self> {
        let (certificate, key) = (certificate.into(), key.into());
        let current = RwLock::new(Pair::read(&certificate, &key)?);
        Ok(Self(Arc::new(Shared { certificate, key, current })))
    }

    /// Reads the files again, which may block. New connections use what they contain now, and existing ones
    /// go on. No session can be resumed across a reload, as the old key may have been stolen.
    ///
    /// # Errors
    ///
    /// As [`Tls::open`]. The certificate and key that were loaded before then stay in use.
    pub fn reload(&self) -> io::Result<()> {
        let pair = Pair::read(&self.0.certificate, &self.0.key)?;
        *self.0.current.write() = pair;
        Ok(())
    }

    /// When the certificate that was loaded last expires, unless its end cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.current.read().expires_at
    }

    /// The configuration for a handshake that begins now.
    pub(in crate::http) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { certificate, key, .. } = &*self.0;
        f.debug_struct("Tls").field("certificate", certificate).field("key", key).finish()
    }
}

impl Pair {
    fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let chain = read_file(certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain.map_err(|error| unusable(certificate, &error))?;
        let first = chain.first().ok_or_else(|| unusable(certificate, &"it has no certificate"))?;
        let expires_at = expiry(first).ok();
        // Rustls checks only the first certificate, so the rest of the chain is checked here.
        if let Some(number) = (1..chain.len()).find(|n| expiry(&chain[*n]).is_err()) {
            return Err(unusable(
                certificate,
                &format!("its certificate {} cannot be read", number + 1),
            ));
        }
        let secret =
            PrivateKeyDer::from_pem_slice(&read_file(key)?).map_err(|error| match error {
                rustls::pki_types::pem::Error::NoItemsFound => {
                    unusable(key, &"it has no unencrypted key")
                }
                error => unusable(key, &error),
            })?;
        // Without 0-RTT, which could be replayed. Sessions are resumed by tickets in TLS 1.3 and by ids in
        // TLS 1.2; the last 256 are kept in memory.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|error| match error {
                Error::InconsistentKeys(_) => {
                    let what = format!("it is not the key of {}", certificate.display());
                    unusable(key, &what)
                }
                Error::InvalidCertificate(error) => unusable(certificate, &error),
                error => unusable(key, &error),
            })?;
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        Ok(Self { config: Arc::new(config), expires_at })
    }
}

/// When a certificate expires (RFC 5280, section 4.1).
fn expiry(certificate: &[u8]) -> der::Result<SystemTime> {
    let certificate = AnyRef::from_der(certificate)?;
    let signed = AnyRef::decode(&mut SliceReader::new(certificate.value())?)?;
    let fields = &mut SliceReader::new(signed.value())?;
    let first = AnyRef::decode(fields)?;
    // The version comes first, but may be left out.
    let _serial = if first.tag().is_context_specific() { AnyRef::decode(fields)? } else { first };
    let (_algorithm, _issuer) = (AnyRef::decode(fields)?, AnyRef::decode(fields)?);
    let validity = &mut SliceReader::new(AnyRef::decode(fields)?.value())?;
    let (_not_before, not_after) = (AnyRef::decode(validity)?, AnyRef::decode(validity)?);
    if not_after.tag() == Tag::UtcTime {
        Ok(not_after.decode_as::<UtcTime>()?.to_system_time())
    } else {
        Ok(not_after.decode_as::<GeneralizedTime>()?.to_system_time())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Years up to 2049 are written with two digits, and later ones with four.
    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        for (year, seconds) in [(2049, 2_493_072_000), (2050, 2_524_608_000)] {
            let mut params = CertificateParams::default();
            params.not_after = date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let der = certificate.der();
            assert_eq!(expiry(der).unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert!(expiry(&der[..der.len() - 1]).is_err() && expiry(b"certificate").is_err());
        }
    }
}
