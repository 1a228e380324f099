//! The addresses that the server listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted. The system may allow fewer.
const BACKLOG: u32 = 4096;

/// Reads an address to listen on, such as `127.0.0.1:8080`. `localhost` means 127.0.0.1. O(length).
///
/// # Errors
///
/// A message that says what is wrong and shows the right form.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 8080);
        return Err(format!("the port is missing; write IP:PORT, such as {example}"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    // Not by `parse` alone, which takes a sign.
    let port = port.parse::<u16>().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
    match (host, port) {
        ("localhost", Some(port)) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        // Many programs take this for all addresses, and some for loopback. Neither is to be guessed.
        ("" | "*", Some(port)) => Err(format!(
            "the IP address is missing; write 127.0.0.1:{port} for this machine only, or 0.0.0.0:{port} for \
             every network"
        )),
        (_, Some(port)) => Err(format!(
            "{host:?} is no IP address; write IP:PORT, such as 127.0.0.1:{port}, or [::1]:{port}"
        )),
        (_, None) => {
            Err("it must be IP:PORT with a port up to 65535, such as 127.0.0.1:8080".to_owned())
        }
    }
}

/// Opens a socket with a long queue for a burst of connections. When the queue is full, a client has to try
/// again after a second. `name` is what the user calls the option.
///
/// # Errors
///
/// If the address cannot be used. The message names it and the option.
pub(super) fn open(address: SocketAddr, name: &str) -> io::Result<TcpListener> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; choose another port",
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; choose another one, such as 127.0.0.1:8080"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege; choose another port, such as 8080"
            }
            _ => "choose another address, such as 127.0.0.1:8080",
        };
        io::Error::new(error.kind(), format!("{name}: cannot listen on {address}: {error}; {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, read) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()), Ok(read.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for (text, examples) in [
            (
                ":8080",
                &["127.0.0.1:8080 for this machine only", "0.0.0.0:8080 for every network"][..],
            ),
            ("8081", &["127.0.0.1:8081 for", "0.0.0.0:8081 for"]),
            ("*:80", &["127.0.0.1:80 for", "0.0.0.0:80 for"]),
            ("127.0.0.1", &["port is missing", "127.0.0.1:8080"]),
            ("::1", &["port is missing", "[::1]:8080"]),
            ("[::1]", &["port is missing", "[::1]:8080"]),
            ("localhost", &["such as 127.0.0.1:8080"]),
            ("example.org:80", &["\"example.org\" is no IP address", "127.0.0.1:80,"]),
            ("http://localhost:80", &["no IP address", "127.0.0.1:80,"]),
            ("127.0.0.1:65536", &["up to 65535"]),
            (":+80", &["up to 65535"]),
            ("", &["IP:PORT"]),
            ("127.0.0.1:", &["IP:PORT"]),
        ] {
            let error = parse(text).unwrap_err();
            for example in examples {
                assert!(error.contains(example), "{text}: {error}");
            }
        }
    }
}
