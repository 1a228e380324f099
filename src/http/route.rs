//! The routes: methods and paths, as they are counted, logged and guarded.

use axum::http::{Method, Uri};

use crate::key::KeyId;
use crate::pool::PoolName;

/// Declares the routes, so that none can be forgotten in the table of all.
macro_rules! routes {
    ($($route:ident: $method:literal $template:literal, $need:ident;)+) => {
        /// A method and a path that the server serves; `Unknown` stands for all others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Route { $($route),+ }

        impl Route {
            /// All routes, in their order.
            pub(super) const ALL: &[Self] = &[$(Self::$route),+];

            /// The method. A HEAD that is answered like a GET counts as one.
            pub(super) const fn method(self) -> &'static str {
                match self { $(Self::$route => $method),+ }
            }

            /// The path, with `{id}` for any id.
            pub(super) const fn template(self) -> &'static str {
                match self { $(Self::$route => $template),+ }
            }

            /// What the role of a token must allow for this route.
            pub(super) const fn need(self) -> Need {
                match self { $(Self::$route => Need::$need),+ }
            }
        }
    };
}

routes! {
    Create: "POST" "/keys", Manage;
    Lease: "GET" "/keys", Use;
    LeaseOrWait: "GET" "/keys?wait", Use;
    LeaseOnce: "POST" "/leases", Use;
    LeaseOnceOrWait: "POST" "/leases?wait", Use;
    TakeBack: "DELETE" "/leases", Manage;
    ReleaseMany: "PUT" "/keys", Use;
    Show: "GET" "/keys/{id}", Use;
    Release: "PUT" "/keys/{id}", Use;
    Delete: "DELETE" "/keys/{id}", Manage;
    Renew: "PUT" "/keys/{id}/lease", Use;
    KeepAlive: "PUT" "/keepalive/{id}", Use;
    KeepAliveMany: "PUT" "/keepalive", Use;
    Stats: "GET" "/stats", Count;
    ListPools: "GET" "/pools", Count;
    PutPool: "PUT" "/pools/{pool}", Manage;
    ShowPool: "GET" "/pools/{pool}", Count;
    DeletePool: "DELETE" "/pools/{pool}", Manage;
    ListKeys: "GET" "/pools/{pool}/inventory", Manage;
    Metrics: "GET" "/metrics", Scrape;
    Health: "GET" "/healthz", Nothing;
    Ready: "GET" "/readyz", Nothing;
    OpenApi: "GET" "/openapi.json", Nothing;
    Docs: "GET" "/docs", Nothing;
    Dashboard: "GET" "/dashboard", Nothing;
    Events: "GET" "/dashboard/events", Count;
    Root: "GET" "/", Nothing;
    Unknown: "other" "other", Manage;
}

/// What a route needs from the role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: no token is needed.
    Nothing,
    /// Reading counts.
    Count,
    /// Reading metrics.
    Scrape,
    /// Leasing, releasing, renewing, keeping alive and showing keys.
    Use,
    /// Creating and deleting keys. Unknown routes need it as well, so that no path is unguarded by mistake.
    Manage,
}

impl Route {
    /// Whether a request waits until a key is free. A lease without `wait` waits only for a store that is slow.
    pub(super) fn may_wait(self) -> bool {
        matches!(self, Self::LeaseOrWait | Self::LeaseOnceOrWait)
    }

    /// The pool that a request is about, if it is about a single one. Other requests take a token for all pools.
    pub(super) fn pool(self) -> Option<&'static str> {
        let is_of_keys = matches!(self, Self::Create | Self::Delete | Self::TakeBack | Self::Stats);
        (self.need() == Need::Use || is_of_keys).then_some(PoolName::DEFAULT)
    }

    /// Whether a request changes or gives something, so that each has a line in the audit log.
    pub(super) fn is_audited(self) -> bool {
        matches!(self.need(), Need::Use | Need::Manage)
            && !matches!(self, Self::Show | Self::Unknown)
    }

    /// Whether its body may be a batch of many keys.
    pub(super) fn has_batch(self) -> bool {
        matches!(self, Self::Create | Self::ReleaseMany | Self::KeepAliveMany)
    }

    /// Whether it leases keys.
    pub(super) fn leases(self) -> bool {
        self.is_lease_once() || matches!(self, Self::Lease | Self::LeaseOrWait)
    }

    /// Whether a lease is answered with 201.
    pub(super) fn is_lease_once(self) -> bool {
        matches!(self, Self::LeaseOnce | Self::LeaseOnceOrWait)
    }

    /// The route of a request. O(length of its target).
    pub(super) fn of(method: &Method, target: &Uri) -> Self {
        let path = in_pool(target.path()).map_or(target.path(), |(_, path)| path);
        let template = match path {
            "/keys" if has_wait(target) && method == Method::GET => "/keys?wait",
            "/leases" if has_wait(target) && method != Method::DELETE => "/leases?wait",
            "/keys/" => "/keys/{id}",
            "/keepalive/" => "/keepalive/{id}",
            _ => template(path),
        };
        let method = method.as_str();
        // HEAD /keys is refused, because its GET leases a key. All other HEAD requests count as GET.
        let method = if method == "HEAD" && template != "/keys" { "GET" } else { method };
        let is = |route: &&Self| route.method() == method && route.template() == template;
        Self::ALL.iter().find(is).copied().unwrap_or(Self::Unknown)
    }
}

/// Whether a request may wait for a key. Its latency is counted apart.
fn has_wait(target: &Uri) -> bool {
    // Names may be escaped.
    let is_wait = |part: &str| part.starts_with("wait=") || part.contains('%');
    target.query().is_some_and(|query| query.split('&').any(is_wait))
}

/// The key id in a path. O(length).
pub(super) fn key_of(path: &str) -> Option<KeyId> {
    let path = in_pool(path).map_or(path, |(_, path)| path);
    path.split('/').find_map(|part| part.parse().ok())
}

/// The name of the pool in a path. O(length).
pub(super) fn pool_of(path: &str) -> Option<&str> {
    let named = path.strip_prefix("/pools/")?;
    let (name, rest) = named.split_once('/').unwrap_or((named, ""));
    match rest {
        "" => (!name.is_empty()).then_some(name),
        // An empty name is none, but the path is about a pool all the same.
        "inventory" => Some(name),
        rest => is_of_keys(rest).then_some(name),
    }
}

/// The name of the pool in a path that begins with `/pools/{pool}/`, and the path of the same route for the default pool.
/// O(length of the name).
pub(super) fn in_pool(path: &str) -> Option<(&str, &str)> {
    let named = path.strip_prefix("/pools/")?;
    let (name, rest) = named.split_at(named.find('/').filter(|length| *length > 0)?);
    is_of_keys(&rest[1..]).then_some((name, rest))
}

/// Whether the rest of a path is that of a route that each pool has.
fn is_of_keys(rest: &str) -> bool {
    let first = rest.split('/').next().unwrap_or_default();
    ["keys", "leases", "keepalive", "stats"].contains(&first)
}

fn template(path: &str) -> &str {
    if let Some(rest) = path.strip_prefix("/keys/") {
        return match rest.split_once('/') {
            None => "/keys/{id}",
            Some((id, "lease")) if !id.is_empty() => "/keys/{id}/lease",
            Some(_) => "",
        };
    }
    if let Some(id) = path.strip_prefix("/keepalive/") {
        return if id.contains('/') { "" } else { "/keepalive/{id}" };
    }
    if let Some(pool) = path.strip_prefix("/pools/") {
        return match pool.split_once('/') {
            None if !pool.is_empty() => "/pools/{pool}",
            Some((pool, "inventory")) if !pool.is_empty() => "/pools/{pool}/inventory",
            _ => "",
        };
    }
    if path.starts_with("/docs/") { "/docs" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_route_of_its_method_and_its_path() {
        let cases = [
            ("GET", "/keys", Route::Lease),
            ("HEAD", "/keys", Route::Unknown),
            ("POST", "/keys", Route::Create),
            ("PUT", "/keys", Route::ReleaseMany),
            ("DELETE", "/keys", Route::Unknown),
            ("GET", "/keys/", Route::Show),
            ("HEAD", "/keys/x", Route::Show),
            ("DELETE", "/keys/x", Route::Delete),
            ("PUT", "/keys/x/lease", Route::Renew),
            ("PUT", "/keys//lease", Route::Unknown),
            ("PUT", "/keys/x/lease/", Route::Unknown),
            ("PUT", "/keepalive/x", Route::KeepAlive),
            ("PUT", "/keepalive/x/y", Route::Unknown),
            ("PUT", "/keepalive", Route::KeepAliveMany),
            ("GET", "/docs/index.html", Route::Docs),
            ("GET", "/docs", Route::Docs),
            ("GET", "/dashboard/", Route::Unknown),
            ("GET", "other", Route::Unknown),
            ("other", "other", Route::Unknown),
            ("GET", "/keys/{id}", Route::Show),
            ("GET", "/keys?count=2", Route::Lease),
            ("GET", "/keys?count=2&wait=1s", Route::LeaseOrWait),
            ("PUT", "/keys?wait=1s", Route::ReleaseMany),
            ("HEAD", "/keys?wait=1s", Route::Unknown),
            ("POST", "/leases?lease=1s", Route::LeaseOnce),
            ("POST", "/leases?wait=1s", Route::LeaseOnceOrWait),
            ("GET", "/leases?wait=1s", Route::Unknown),
            ("DELETE", "/leases?holder=a", Route::TakeBack),
            ("DELETE", "/pools/a/leases?holder=a", Route::TakeBack),
            ("GET", "/pools", Route::ListPools),
            ("GET", "/pools/", Route::Unknown),
            ("HEAD", "/pools/a", Route::ShowPool),
            ("PUT", "/pools/keys", Route::PutPool),
            ("DELETE", "/pools/a", Route::DeletePool),
            ("DELETE", "/pools/a/", Route::Unknown),
            ("GET", "/pools/a/keys", Route::Lease),
            ("HEAD", "/pools/a/keys", Route::Unknown),
            ("POST", "/pools/a/leases?wait=1s", Route::LeaseOnceOrWait),
            ("PUT", "/pools/a/keys/x/lease", Route::Renew),
            ("PUT", "/pools/a/keepalive/x", Route::KeepAlive),
            ("GET", "/pools/a/stats", Route::Stats),
            ("GET", "/pools//stats", Route::Unknown),
            ("GET", "/pools/a/inventory", Route::ListKeys),
            ("GET", "/pools//inventory", Route::Unknown),
            ("GET", "/inventory", Route::Unknown),
            ("GET", "/pools/a/metrics", Route::Unknown),
            ("GET", "/pools/a/keysx", Route::Unknown),
            ("GET", "/pools/a/pools/b/keys", Route::Unknown),
            ("GET", "*", Route::Unknown),
        ];
        for (method, path, route) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(Route::of(&method, &path.parse().unwrap()), route, "{method} {path}");
        }
    }
}
