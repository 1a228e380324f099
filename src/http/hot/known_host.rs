//! The host that requests name, checked once for many of them.

use crate::http::auth::Access;

/// The last host that was admitted. Nearly all clients of a server name the same one.
#[derive(Default)]
pub(super) struct KnownHost(Vec<u8>);

impl KnownHost {
    /// Whether a request may name this host; the router refuses the others. O(length).
    pub(super) fn admits(&mut self, access: &Access, host: Option<&[u8]>) -> bool {
        let Some(host) = host else { return false };
        if host == self.0 && !host.is_empty() {
            return true;
        }
        let is_admitted = access.check_host(host).is_ok();
        if is_admitted {
            self.0.clear();
            self.0.extend_from_slice(host);
        }
        is_admitted
    }
}
