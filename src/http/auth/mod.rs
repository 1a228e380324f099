//! Access control: bearer tokens (RFC 6750), their roles and their pools, and requests that pages of other sites
//! make browsers send.

mod access;
mod guard;
mod hash;
mod hosts;
mod pools;
mod quota;
mod roles;
mod same_site;
mod token;
mod tokens;

pub use self::access::Access;
pub(super) use self::access::CachedRole;
pub(super) use self::guard::{authorization, guard};
pub use self::hash::{TokenHash, new_token};
pub use self::pools::Pools;
pub use self::quota::parse_max_held;
pub use self::roles::Role;
pub(super) use self::same_site::FETCH_SITE;
pub use self::token::{check_name, check_quota};
