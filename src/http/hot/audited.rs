//! Requests of the hot path in the audit log.

use std::sync::Arc;

use super::connection::Connection;
use super::fields::Fields;
use super::request::Hot;
use crate::http::audit::Entry;
use crate::http::auth::Access;
use crate::pool::PoolId;
use crate::store::Store;

/// Begins the entry of a request that its token allows, if such requests have one. O(length of its ids).
pub(super) fn begin(
    access: &Access,
    connection: &Connection,
    hot: &Hot,
    fields: &Fields<'_>,
    store: &impl Store,
) -> Option<Box<Entry>> {
    if !hot.route.is_audited() {
        return None;
    }
    let mut entry = Entry::new(hot.route, fields.sent, connection.place.address());
    let token = access.token(fields.authorization, connection.cached_role.as_deref());
    entry.token = token.map(|token| Arc::clone(&token.name));
    if hot.pool != PoolId::DEFAULT {
        entry.pool = store.name_of(hot.pool);
    }
    entry.set_operation(&hot.operation);
    Some(entry)
}
