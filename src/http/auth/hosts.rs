//! The host that a request names: the address by which its client has reached the server.
//!
//! A page of any site can let its own name lead to this server (DNS rebinding), and the browser then takes the
//! server for that site. The page has no token, so this matters only for a server that asks for none.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Version};

use crate::http::wire::Problem;

/// The longest host that is named in an answer: the longest name that there is.
const SHOWN_MAX: usize = 253;

/// The names by which clients may reach a server.
#[derive(Clone)]
pub(super) enum Hosts {
    Any,
    /// Besides IP addresses and `localhost`, which nobody can let lead elsewhere.
    Only(Vec<String>),
}

impl Hosts {
    /// Checks the host of a request, with or without a port. O(length).
    ///
    /// # Errors
    ///
    /// [`Problem::MalformedHost`], or [`Problem::ForeignHost`] if clients may not reach the server by this name.
    pub(super) fn check(&self, value: &[u8]) -> Result<(), Problem> {
        let host = host(value).ok_or(Problem::MalformedHost)?;
        match self {
            Self::Only(names)
                if !is_local(host) && !names.iter().any(|name| is_same(name, host)) =>
            {
                let shown = &host[..host.len().min(SHOWN_MAX)];
                Err(Problem::ForeignHost { host: shown.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// Whether two names are the same. One may end with the dot of the root.
fn is_same(name: &str, host: &str) -> bool {
    name.eq_ignore_ascii_case(host.strip_suffix('.').unwrap_or(host))
}

fn is_local(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok() || is_same("localhost", host)
}

/// The host in `uri-host [ ":" port ]` (RFC 9110, section 7.2). `None` if the value is malformed or empty.
fn host(value: &[u8]) -> Option<&str> {
    let text = str::from_utf8(value).ok()?;
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            port.is_empty()
                || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_of_name),
    };
    (is_port && is_host).then_some(host)
}

/// Whether a byte may be in a name: `unreserved`, `sub-delims` and `%` of RFC 3986.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte)
}

/// The host of a request. In HTTP/1.1 it must be named exactly once (RFC 9112, section 3.2), and the host in
/// the target comes first. HTTP/2 has it in the target, or in a field, and may leave it out (RFC 9113, section 8.3.1).
///
/// # Errors
///
/// [`Problem::MalformedHost`] if it is missing, or named twice.
pub(super) fn host_of(request: &Request) -> Result<Option<&[u8]>, Problem> {
    let mut fields = request.headers().get_all(HOST).iter();
    let (field, is_only) = (fields.next(), fields.next().is_none());
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    // Health checks of proxies name none over HTTP/2; browsers always do.
    let is_missing = request.version() == Version::HTTP_11 && field.is_none();
    let field = field.map(HeaderValue::as_bytes);
    let is_malformed = field.is_some_and(|field| host(field).is_none());
    if is_missing || !is_only || is_malformed {
        return Err(Problem::MalformedHost);
    }
    Ok(target.or(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (value, expected) in [
            ("a", Some("a")),
            ("a:80", Some("a")),
            ("a:", Some("a")),
            ("a-b.c_d:65535", Some("a-b.c_d")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[::1]:8080", Some("[::1]")),
            ("", None),
            (":80", None),
            ("a:65536", None),
            ("a:+1", None),
            ("a:1:2", None),
            ("::1", None),
            ("[::1", None),
            ("[]", None),
            ("[a]", None),
            ("[::1]80", None),
            ("a b", None),
            ("a/b", None),
            ("user@a", None),
            ("a\"", None),
            ("ä", None),
        ] {
            assert_eq!(host(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(host(b"a\xff"), None);
    }

    #[test]
    fn addresses_localhost_and_given_names_may_be_used() {
        let hosts = Hosts::Only(vec!["keys.example".to_owned()]);
        for value in ["10.0.0.1:80", "[::1]:80", "LocalHost", "localhost.:1", "Keys.Example:80"] {
            assert!(hosts.check(value.as_bytes()).is_ok(), "{value}");
            assert!(Hosts::Any.check(value.as_bytes()).is_ok(), "{value}");
        }
        for value in ["example", "a.keys.example", "localhost.example", "127.0.0.1.example", "1"] {
            let refused = hosts.check(value.as_bytes());
            assert!(matches!(refused, Err(Problem::ForeignHost { .. })), "{value}");
            assert!(Hosts::Any.check(value.as_bytes()).is_ok(), "{value}");
        }
        assert!(matches!(Hosts::Any.check(b""), Err(Problem::MalformedHost)));
    }
}
