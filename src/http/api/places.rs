//! The places of connections, and how many of them one address takes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

/// The addresses that have connections, if each of them has a limit.
pub(in crate::http) struct Peers {
    max: usize,
    peers: Mutex<HashMap<IpAddr, Arc<Peer>>>,
}

/// What one address takes. Connections are counted under the lock of the map.
#[derive(Default)]
struct Peer {
    connections: AtomicUsize,
    /// Requests that wait for a key.
    waiting: AtomicUsize,
}

impl Peers {
    /// At most `max` connections of each address, and as many requests of each that wait for a key.
    pub(in crate::http) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, peers: Mutex::default() })
    }

    /// A place for a connection from this address; `None` if it has as many as it may. O(1).
    pub(in crate::http) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<PeerPlace> {
        let address = network_of(address);
        let mut peers = self.peers.lock();
        let peer = peers.entry(address).or_default();
        let connections = peer.connections.load(Relaxed);
        if connections >= self.max {
            return None;
        }
        peer.connections.store(connections + 1, Relaxed);
        Some(PeerPlace { peers: Arc::clone(self), peer: Arc::clone(peer), address })
    }
}

/// What counts as one address: one of IPv4, and a network of 64 bits of IPv6, where one machine has many addresses.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The place of one connection of an address.
pub(in crate::http) struct PeerPlace {
    peers: Arc<Peers>,
    peer: Arc<Peer>,
    address: IpAddr,
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut peers = self.peers.peers.lock();
        let connections = self.peer.connections.load(Relaxed) - 1;
        self.peer.connections.store(connections, Relaxed);
        if connections == 0 {
            peers.remove(&self.address);
        }
        if peers.is_empty() {
            peers.shrink_to_fit();
        }
    }
}

/// What is kept of the client of a connection, if anything.
struct Kept {
    /// Where each address has a limit.
    place: Option<PeerPlace>,
    /// Where there is an audit log.
    address: Option<Box<SocketAddr>>,
}

/// The place of a connection among all that there may be.
pub(in crate::http) struct Place {
    _permit: OwnedSemaphorePermit,
    kept: Option<Arc<Kept>>,
}

impl Place {
    /// A place with a limit for its address if there is one, and with the address if it is wanted for the audit log.
    pub(in crate::http) fn new(
        permit: OwnedSemaphorePermit,
        place: Option<PeerPlace>,
        address: Option<SocketAddr>,
    ) -> Self {
        let is_kept = place.is_some() || address.is_some();
        let kept = is_kept.then(|| Arc::new(Kept { place, address: address.map(Box::new) }));
        Self { _permit: permit, kept }
    }

    /// What handlers see of it.
    pub(in crate::http) fn turns(&self) -> Turns {
        Turns(self.kept.clone())
    }

    /// The address of the client, if it is kept. O(1).
    pub(in crate::http) fn address(&self) -> Option<SocketAddr> {
        address(self.kept.as_ref())
    }
}

fn address(kept: Option<&Arc<Kept>>) -> Option<SocketAddr> {
    kept?.address.as_deref().copied()
}

/// Lets requests of an address wait for a key, as many as may.
#[derive(Clone, Default)]
pub(in crate::http) struct Turns(Option<Arc<Kept>>);

impl Turns {
    /// A turn for one request; `None` if as many of its address wait as may. O(1).
    pub(in crate::http) fn take(&self) -> Option<Turn> {
        let Some(kept) = &self.0 else { return Some(Turn(None)) };
        let Some(place) = &kept.place else { return Some(Turn(None)) };
        let max = place.peers.max;
        let more = |waiting: usize| (waiting < max).then_some(waiting + 1);
        place.peer.waiting.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Turn(Some(Arc::clone(kept))))
    }

    /// The address of the client, if it is kept. O(1).
    pub(super) fn address(&self) -> Option<SocketAddr> {
        address(self.0.as_ref())
    }
}

/// Held while a request waits for a key.
pub(in crate::http) struct Turn(Option<Arc<Kept>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let place = self.0.as_ref().and_then(|kept| kept.place.as_ref());
        if let Some(place) = place {
            place.peer.waiting.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_places_and_turns() {
        let peers = Peers::new(2);
        let enter = |address: &str| peers.enter(address.parse().unwrap());
        let (first, second) = (enter("10.0.0.1").unwrap(), enter("::ffff:10.0.0.1").unwrap());
        assert!(enter("10.0.0.1").is_none());
        let other = enter("10.0.0.2").unwrap();
        drop(first);
        let again = enter("10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_none());
        let turns = [second, again].map(|place| {
            let place = Some(place);
            Turns(Some(Arc::new(Kept { place, address: None })))
        });
        let waiting = [turns[0].take().unwrap(), turns[1].take().unwrap()];
        assert!(turns[0].take().is_none() && turns[1].take().is_none());
        drop(waiting);
        assert!(turns[0].take().is_some());
        drop((turns, other));
        assert!(peers.peers.lock().is_empty(), "an address without connections takes no memory");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let peers = Peers::new(1);
        let _first = peers.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(peers.enter("2001:db8::2:1".parse().unwrap()).is_none());
        assert!(peers.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
    }

    #[test]
    fn without_a_limit_every_request_may_wait() {
        let turns: Vec<_> = (0..1000).map(|_| Turns::default().take()).collect();
        assert!(turns.iter().all(Option::is_some));
    }
}
