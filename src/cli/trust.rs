//! Whom a client trusts, and what it shows to be let in.

use std::env;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::address::{is_here, is_https};
use crate::config::{read_file, unusable};

/// What holds the token if no file does. It is no option: everybody may see a command line.
const TOKEN: &str = "TOKEN_ORCHESTRATOR_TOKEN";

/// How to speak TLS with a server: whom `ca` vouches for is trusted, or else whom the system trusts.
///
/// # Errors
///
/// If there is nobody to trust.
pub(super) fn tls(server: &Uri, ca: Option<&Path>) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if is_https(server) && ca.is_none() {
        let config = config.with_platform_verifier();
        let config = config.map_err(|error| format!("cannot trust whom the system does: {error}"));
        return Ok(config?.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    // Without TLS, nobody needs to be trusted.
    if let Some(path) = ca.filter(|_| is_https(server)) {
        let bad = |what: &dyn Display| unusable(path, what).to_string();
        let file = read_file(path).map_err(|error| error.to_string())?;
        for certificate in CertificateDer::pem_slice_iter(&file) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(bad(&"it has no certificate"));
        }
    }
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What lets a client in: the token of `file`, or else that of the environment.
///
/// # Errors
///
/// If it cannot be read or is none, or others than the server could read it on its way.
pub(super) fn authorization(
    server: &Uri,
    file: Option<&Path>,
) -> Result<Option<HeaderValue>, String> {
    let (token, place) = match (file, env::var_os(TOKEN)) {
        (Some(path), _) => {
            let place = path.display().to_string();
            (read_file(path).map_err(|error| error.to_string())?, place)
        }
        (None, Some(token)) => (token.into_encoded_bytes(), TOKEN.to_owned()),
        (None, None) => return Ok(None),
    };
    let token = token.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(format!("{place} does not hold a token"));
    }
    if !is_https(server) && !is_here(server) {
        return Err(format!(
            "a token is sent by https:// only, but to this machine; not to {server}"
        ));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| format!("{place} does not hold a token"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
