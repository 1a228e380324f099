//! The quotas that this server knows.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::key::Quota;

/// The quotas that leases of this server count against.
#[derive(Default)]
pub(super) struct Quotas {
    pub(super) by_name: Mutex<HashMap<String, Arc<Quota>>>,
}

/// The name by which servers share a quota. One without a name is this server's alone.
pub(super) fn name_of(quota: &Arc<Quota>) -> String {
    match quota.name() {
        Some(name) => name.to_owned(),
        // It lives as long as its leases are known here.
        None => format!(" {:x}", Arc::as_ptr(quota) as usize),
    }
}
