//! The address of a server.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::Scheme;

const FORM: &str = "must be http://HOST:PORT or https://HOST:PORT, such as http://localhost:8080";

/// Reads the address of a server, such as `localhost:8080`. O(length).
///
/// A path and a query of the address precede those of each request.
///
/// # Errors
///
/// A message that says what is wrong and shows the right form.
pub(super) fn parse_server(text: &str) -> Result<Uri, String> {
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = text.parse().map_err(|error| format!("{error}; {FORM}"))?;
    let is_known = is_https(&url) || url.scheme() == Some(&Scheme::HTTP);
    if !is_known || url.host().is_none_or(str::is_empty) {
        return Err(FORM.to_owned());
    }
    let Some(authority) = url.authority() else { return Err(FORM.to_owned()) };
    if authority.as_str().contains('@') {
        return Err(
            "must not contain a user or a password: give a token with --token-file FILE, or in \
                    TOKEN_ORCHESTRATOR_TOKEN"
                .to_owned(),
        );
    }
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return Err(format!("the port must be a number up to 65535; {FORM}"));
    }
    Ok(url)
}

/// Whether requests to a server go over TLS.
pub(super) fn is_https(server: &Uri) -> bool {
    server.scheme() == Some(&Scheme::HTTPS)
}

/// Whether the server's address is `localhost` or a loopback address.
pub(super) fn is_local(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_made_whole() {
        for (text, read) in [
            ("localhost:8080", "http://localhost:8080/"),
            (" https://keys.example.org ", "https://keys.example.org/"),
            ("HTTPS://[::1]:8443/keys/#top", "https://[::1]:8443/keys/"),
            ("http://127.0.0.1/?of=mine", "http://127.0.0.1/?of=mine"),
        ] {
            assert_eq!(parse_server(text).unwrap().to_string(), read);
        }
        for (text, named) in [
            ("", "HOST:PORT"),
            ("http://", "HOST:PORT"),
            ("/keys", "HOST:PORT"),
            ("ftp://localhost", "https://HOST:PORT"),
            ("two words", "HOST:PORT"),
            ("localhost:65536", "up to 65535"),
            ("localhost:http", "HOST:PORT"),
            ("http://user@localhost", "password"),
        ] {
            let error = parse_server(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn only_loopback_is_this_machine() {
        let here = ["localhost:1", "LOCALHOST", "127.8.9.1:80", "[::1]:8080"];
        let elsewhere = ["localhost.example.org", "127.0.0.1.nip.io", "10.0.0.1", "[fe80::1]:80"];
        for (list, expected) in [(here, true), (elsewhere, false)] {
            for address in list {
                assert_eq!(is_local(&parse_server(address).unwrap()), expected, "{address}");
            }
        }
    }
}
