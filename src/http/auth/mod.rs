//! Access control: bearer tokens (RFC 6750) and their roles, and requests that pages of other sites
//! make browsers send.

mod access;
mod guard;
mod hosts;
mod roles;
mod same_site;
mod tokens;

pub use self::access::Access;
pub(super) use self::access::CachedRole;
pub(super) use self::guard::{authorization, guard};
pub use self::roles::Role;
pub(super) use self::same_site::FETCH_SITE;
pub use self::tokens::{TokenHash, check_name, new_token};
