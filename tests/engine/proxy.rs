//! A network between nodes and servers that can be cut.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

/// The cables of one node. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Cables(Arc<Cut>);

#[derive(Default)]
struct Cut {
    to_nodes: AtomicBool,
    to_servers: AtomicBool,
}

impl Cables {
    /// Cuts those to other nodes or not, and those to servers or not.
    pub(crate) fn cut(&self, to_nodes: bool, to_servers: bool) {
        self.0.to_nodes.store(to_nodes, SeqCst);
        self.0.to_servers.store(to_servers, SeqCst);
    }

    /// Whether bytes from or to a peer get through.
    fn lets_through(&self, is_node: bool) -> bool {
        let cut = if is_node { &self.0.to_nodes } else { &self.0.to_servers };
        !cut.load(SeqCst)
    }
}

/// Passes on to `to` what comes to a port, as long as the cables of both ends let it through. Until then it waits, as packets
/// do that are sent again and again: what was on its way arrives late. Nodes are known by their addresses, from which they
/// connect.
pub(crate) fn pass_on(listener: TcpListener, to: SocketAddr, own: Cables, all: Vec<Cables>) {
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(peer) = client.peer_addr() else { continue };
            let Ok(node) = TcpStream::connect(to) else { continue };
            let of_node = |node: &usize| IpAddr::V4(address_of(*node)) == peer.ip();
            let far = (0..all.len()).find(of_node).map(|node| all[node].clone());
            let is_node = far.is_some();
            let far = far.unwrap_or_default();
            let (own, back) = (own.clone(), [own.clone(), far.clone()]);
            let there = [own, far];
            let pairs =
                [(client.try_clone(), node.try_clone(), there), (Ok(node), Ok(client), back)];
            for (from, to, cables) in pairs {
                let (Ok(from), Ok(to)) = (from, to) else { continue };
                thread::spawn(move || copy(from, to, &cables, is_node));
            }
        }
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream, cables: &[Cables; 2], is_node: bool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while !cables.iter().all(|cables| cables.lets_through(is_node)) {
            thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}

/// The address of a node that has cables.
pub(crate) fn address_of(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(node + 1).expect("few"))
}
