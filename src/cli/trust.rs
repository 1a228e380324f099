//! Which issuers a client trusts, and the token that it authenticates with.

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

use super::address::{is_https, is_local};
use super::names::name_of_file;
use crate::config::{read_file, unusable};

/// The variable that holds the token if no file does. There is no option for it, because other users of the
/// machine can see a command line.
pub(super) const TOKEN: &str = "TOKEN_ORCHESTRATOR_TOKEN";

/// The TLS configuration for a server: it trusts the issuers in the file `ca`, or else those of the
/// system.
///
/// # Errors
///
/// If there is no issuer to trust, or the file cannot be used.
pub(super) fn tls(server: &Uri, ca: Option<&Path>) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if is_https(server) && ca.is_none() {
        let config = config.with_platform_verifier();
        let config = config.map_err(|error| {
            format!(
                "cannot read the issuers that the system trusts: {error}; name them with --ca-cert FILE"
            )
        });
        return Ok(config?.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    // Without TLS, no issuer is needed.
    if let Some(path) = ca.filter(|_| is_https(server)) {
        let name = name_of_file("--ca-cert", "TOKEN_ORCHESTRATOR_CA_CERT", path);
        let bad = |what: &dyn Display| format!("{name}: {}", unusable(path, what));
        let file = read_file(path).map_err(|error| format!("{name}: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&file) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(bad(
                &"it contains no certificate; it must be PEM, with -----BEGIN CERTIFICATE-----",
            ));
        }
    }
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The `Authorization` of a client: the token in `file`, or else that in the environment.
///
/// # Errors
///
/// If the token cannot be read or is malformed, or would be sent unencrypted to another machine.
pub(super) fn authorization(
    server: &Uri,
    file: Option<&Path>,
) -> Result<Option<HeaderValue>, String> {
    let (token, source) = match (file, env::var_os(TOKEN)) {
        (Some(path), _) => {
            let source = path.display().to_string();
            let name = name_of_file("--token-file", "TOKEN_ORCHESTRATOR_TOKEN_FILE", path);
            (read_file(path).map_err(|error| format!("{name}: {error}"))?, source)
        }
        (None, Some(token)) => (token.into_encoded_bytes(), TOKEN.to_owned()),
        (None, None) => return Ok(None),
    };
    let malformed = || {
        format!("{source} does not contain a token; it must be one word, as `token new` prints it")
    };
    let token = token.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(malformed());
    }
    if !is_https(server) && !is_local(server) {
        return Err(format!(
            "refused to send the token unencrypted to {server}; use https://, or a server on this machine"
        ));
    }
    let mut value =
        HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| malformed())?;
    value.set_sensitive(true);
    Ok(Some(value))
}
