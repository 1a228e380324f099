//! Why there was no answer, in words.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

/// How many names of a certificate are told.
const NAMES_MAX: usize = 5;

/// What is wrong, and what the user can do. `ca` is the file of `--ca-cert`. O(length of the message).
pub(super) fn explain(error: &(dyn Error + 'static), ca: Option<&Path>) -> String {
    let mut innermost = error;
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = tls_error(cause) {
            return of_tls(error, ca);
        }
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return "the answer is not HTTP; if the server speaks TLS, write https:// instead of http://"
                .to_owned();
        }
        (innermost, next) = (cause, cause.source());
    }
    // The innermost cause is the most specific.
    match innermost.downcast_ref::<io::Error>() {
        Some(error) if error.to_string() == "tls handshake eof" => {
            "the server ended the TLS handshake; if it does not speak TLS, write http:// instead of https://"
                .to_owned()
        }
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there; start the server, or give its address with --server URL".to_owned()
        }
        _ => innermost.to_string(),
    }
}

/// The error of the TLS library that an error is, or that an I/O error is made of.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    // Its `source` would be that of the error inside.
    let inner: &'a (dyn Error + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

fn of_tls(error: &rustls::Error, ca: Option<&Path>) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error, ca),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS; write http:// instead of https://".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(_) => {
            format!("the server and this program have no version of TLS in common: {error}")
        }
        error => format!("TLS failed: {error}"),
    }
}

fn of_certificate(error: &CertificateError, ca: Option<&Path>) -> String {
    use CertificateError as Bad;
    match error {
        // An issuer of the same name with another key looks like a bad signature.
        Bad::UnknownIssuer
        | Bad::BadSignature
        | Bad::UnsupportedSignatureAlgorithmContext { .. }
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => match ca {
            Some(path) => format!(
                "no issuer in {} has issued the server's certificate; give the file with its issuer as --ca-cert",
                path.display()
            ),
            None => "no issuer that this system trusts has issued the server's certificate; name its issuer \
                     with --ca-cert FILE"
                .to_owned(),
        },
        Bad::Expired => "the server's certificate has expired; renew it on the server".to_owned(),
        Bad::ExpiredContext { not_after, time } => format!(
            "the server's certificate expired at {}; renew it on the server, unless the clock of this machine is \
             wrong, which says {}",
            date(*not_after),
            date(*time)
        ),
        Bad::NotValidYet => {
            "the server's certificate is not valid yet; set the clock of this machine".to_owned()
        }
        Bad::NotValidYetContext { not_before, time } => format!(
            "the server's certificate is not valid before {}; set the clock of this machine, which says {}",
            date(*not_before),
            date(*time)
        ),
        Bad::NotValidForName => {
            "the server's certificate is for another name; use that name in --server".to_owned()
        }
        Bad::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let mut names = presented.iter().map(|name| bare(name)).collect::<Vec<_>>();
            if names.len() > NAMES_MAX {
                names.truncate(NAMES_MAX);
                names.push("others");
            }
            let names = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
            format!(
                "the server's certificate is not for {expected} but for {names}; use a name of the \
                 certificate in --server, or give the server a certificate for {expected}"
            )
        }
        Bad::Revoked => "the server's certificate was revoked; renew it on the server".to_owned(),
        Bad::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is that of an authority; give the server one with CA:FALSE".to_owned()
        }
        error => format!("the server's certificate cannot be used: {error}"),
    }
}

/// A name as people write it: the library writes `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, name)| name.trim_matches(['"', '(', ')']))
}

fn date(time: UnixTime) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
