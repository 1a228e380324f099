//! A network that fails: connections to a server that are cut, or on which nothing moves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::thread::{sleep, spawn};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(super) enum Network {
    Works,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Connections last, and nothing arrives.
    Silent,
}

pub(super) struct Proxy {
    pub(super) url: String,
    network: Arc<AtomicU8>,
    refused: Arc<AtomicUsize>,
}

impl Proxy {
    pub(super) fn new(server: &str) -> Self {
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let network = Arc::new(AtomicU8::new(Network::Works as u8));
        let refused = Arc::new(AtomicUsize::new(0));
        let (state, count) = (Arc::clone(&network), Arc::clone(&refused));
        spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                if state.load(SeqCst) == Network::Cut as u8 {
                    count.fetch_add(1, SeqCst);
                    continue;
                }
                // The server may have ended.
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, back) = (Arc::clone(&state), Arc::clone(&state));
                spawn(move || carry(from, to, &there));
                spawn(move || carry(server, client, &back));
            }
        });
        Self { url, network, refused }
    }

    pub(super) fn set(&self, network: Network) {
        self.network.store(network as u8, SeqCst);
    }

    /// How many connections were closed at once.
    pub(super) fn refused(&self) -> usize {
        self.refused.load(SeqCst)
    }
}

/// Carries bytes from one end to the other for as long as the network works.
fn carry(mut from: TcpStream, mut to: TcpStream, network: &AtomicU8) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        while network.load(SeqCst) == Network::Silent as u8 {
            sleep(Duration::from_millis(1));
        }
        if network.load(SeqCst) == Network::Cut as u8 || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
