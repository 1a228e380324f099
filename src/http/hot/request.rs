//! Which requests are hot: those for one key, without a body.

use super::fields::Fields;
use super::known_pool::Lookup;
use crate::http::api::Limits;
use crate::http::api::if_match::only_generation;
use crate::http::api::query::duration;
use crate::http::api::request_key::request_key;
use crate::http::route::{Route, in_pool};
use crate::key::{Fence, Holder, KeyId, Label};
use crate::pool::PoolId;
use crate::store::{Leasing, Operation, Release, Renewal};

/// A request that this path answers.
pub(super) struct Hot {
    pub(super) route: Route,
    pub(super) pool: PoolId,
    /// What the store is asked for.
    pub(super) operation: Operation<'static>,
}

impl Hot {
    /// Lets a lease have the holder of a token, unless the request says another; then it counts against the quota of the
    /// token all the same.
    pub(super) fn set_holder(&mut self, of_token: &Holder) {
        let (Operation::Lease(leasing) | Operation::LeaseOnce(leasing, _)) = &mut self.operation
        else {
            return;
        };
        leasing.hold_with(of_token);
    }

    /// The request with this method, target and fields, if it is hot. What is malformed, unknown or beyond
    /// a limit is not: the router refuses it. O(length).
    pub(super) fn of(
        method: &str,
        target: &str,
        fields: &Fields<'_>,
        pools: &mut impl Lookup,
    ) -> Option<Self> {
        let if_match = fields.if_match;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let (pool, path) = match in_pool(path) {
            Some((name, path)) => (pools.find(name)?, path),
            None => (PoolId::DEFAULT, path),
        };
        // Only parameters have limits.
        let limits = query.map_or(Some(Limits::NONE), |_| pools.limits(pool))?;
        let hot = |route, operation| Some(Self { route, pool, operation });
        if let Some(rest) = path.strip_prefix("/keys/") {
            if let Some(id) = rest.strip_suffix("/lease") {
                let [lease_ms] = parameters(query, [("lease", limits.lease_ms_max)])?;
                let renewal = Renewal { fence: fence(if_match)?, lease_ms };
                let renew = Operation::Renew(id.parse().ok()?, renewal);
                return (method == "PUT").then_some(Self {
                    route: Route::Renew,
                    pool,
                    operation: renew,
                });
            }
            let id: KeyId = rest.parse().ok()?;
            return match method {
                "PUT" => {
                    let [ms] = parameters(query, [("cooldown", limits.cooldown_ms_max)])?;
                    let (fence, cooldown_ms) = (fence(if_match)?, ms.unwrap_or(0));
                    let release = Release { fence, cooldown_ms };
                    hot(Route::Release, Operation::Release(id, release))
                }
                "GET" if query.is_none() => hot(Route::Show, Operation::Show(id)),
                "DELETE" if query.is_none() => {
                    hot(Route::Delete, Operation::Delete(id, fence(if_match)?))
                }
                _ => None,
            };
        }
        match (method, path) {
            ("GET", "/keys") => {
                let (leasing, waits) = leasing(query, &limits)?;
                let route = if waits { Route::LeaseOrWait } else { Route::Lease };
                hot(route, Operation::Lease(leasing))
            }
            ("POST", "/leases") => {
                let (leasing, waits) = leasing(query, &limits)?;
                let route = if waits { Route::LeaseOnceOrWait } else { Route::LeaseOnce };
                let Some(key) = fields.request_key else {
                    return hot(route, Operation::Lease(leasing));
                };
                let key = request_key(key, fields.authorization, pool, &leasing, 0)?;
                hot(route, Operation::LeaseOnce(leasing, key))
            }
            ("POST", "/keys") if query.is_none() => {
                hot(Route::Create, Operation::Create { count: 1 })
            }
            ("PUT", _) if query.is_none() => {
                let id = path.strip_prefix("/keepalive/")?.parse().ok()?;
                hot(Route::KeepAlive, Operation::KeepAlive(id))
            }
            _ => None,
        }
    }
}

/// What the query asks of a lease, and whether it says how long to wait. The holder counts against no quota yet.
fn leasing(query: Option<&str>, limits: &Limits) -> Option<(Leasing, bool)> {
    let (mut leasing, mut waits) = (Leasing::default(), false);
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, text) = parameter.split_once('=')?;
        let is_new = match name {
            "lease" => {
                let ms = duration(name, Some(text), limits.lease_ms_max).ok()?;
                leasing.lease_ms.replace(ms?).is_none()
            }
            "wait" => {
                leasing.wait_ms = duration(name, Some(text), limits.wait_ms_max).ok()??;
                !std::mem::replace(&mut waits, true)
            }
            "label" => leasing.label.replace(Label::parse(plain(text)?)?).is_none(),
            "holder" => leasing.holder.replace(Holder::new(plain(text)?, None)?).is_none(),
            _ => false,
        };
        if !is_new {
            return None;
        }
    }
    Some((leasing, waits))
}

/// A value that needs no decoding, of characters that any target may have. The router decodes or refuses others.
fn plain(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?@!$'()*,;=".contains(&byte);
    text.bytes().all(is_plain).then_some(text)
}

/// The generation that `If-Match` names. A list, or a tag that is no generation, is left to the router.
fn fence(if_match: Option<&[u8]>) -> Option<Fence<'static>> {
    match if_match {
        None | Some(b"*") => Some(Fence::Any),
        Some(tag) => only_generation(tag).map(Fence::One),
    }
}

/// The values of durations in a query, in milliseconds, with the longest one of each name. `None` if there is
/// anything else, a name comes twice, or a value must be refused.
fn parameters<const N: usize>(
    query: Option<&str>,
    known: [(&str, u32); N],
) -> Option<[Option<u32>; N]> {
    let mut values = [None; N];
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, text) = parameter.split_once('=')?;
        let place = known.iter().position(|(known, _)| *known == name)?;
        let value = duration(name, Some(text), known[place].1).ok()?;
        if values[place].replace(value?).is_some() {
            return None;
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Settings;

    const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

    /// The pools `default` and `own`.
    struct Two;

    const OWN: PoolId = PoolId { place: 1, serial: 2 };

    impl Lookup for Two {
        fn find(&mut self, name: &str) -> Option<PoolId> {
            match name {
                "default" => Some(PoolId::DEFAULT),
                _ => (name == "own").then_some(OWN),
            }
        }

        fn limits(&self, pool: PoolId) -> Option<Limits> {
            let default = Limits::from(Settings::default());
            let lease_ms_max = if pool == OWN { 120_000 } else { default.lease_ms_max };
            Some(Limits { lease_ms_max, ..default })
        }
    }

    fn of(method: &str, target: &str, if_match: &str) -> Option<String> {
        let if_match = (!if_match.is_empty()).then_some(if_match.as_bytes());
        let fields = Fields { if_match, ..Fields::default() };
        let hot = Hot::of(method, &target.replace("ID", ID), &fields, &mut Two)?;
        let pool = if hot.pool == OWN { "own " } else { "" };
        Some(format!("{pool}{:?} {:?}", hot.route, hot.operation).replace(ID, "ID"))
    }

    #[test]
    fn every_request_for_one_key_without_a_body_is_hot() {
        let leasing = |lease_ms, wait_ms| Operation::Lease(Leasing::of_any(lease_ms, wait_ms));
        let id: KeyId = ID.parse().unwrap();
        let release = |fence, cooldown_ms| Operation::Release(id, Release { fence, cooldown_ms });
        let renew = |fence, lease_ms| Operation::Renew(id, Renewal { fence, lease_ms });
        for (method, target, if_match, route, operation) in [
            ("GET", "/keys", "", Route::Lease, leasing(None, 0)),
            ("GET", "/keys", "\"x\"", Route::Lease, leasing(None, 0)),
            ("POST", "/leases", "", Route::LeaseOnce, leasing(None, 0)),
            (
                "POST",
                "/leases?lease=5s&wait=1s",
                "",
                Route::LeaseOnceOrWait,
                leasing(Some(5000), 1000),
            ),
            ("GET", "/keys?lease=5s", "", Route::Lease, leasing(Some(5000), 0)),
            ("GET", "/keys?wait=1s&lease=7ms", "", Route::LeaseOrWait, leasing(Some(7), 1000)),
            ("POST", "/keys", "", Route::Create, Operation::Create { count: 1 }),
            ("GET", "/keys/ID", "*, x", Route::Show, Operation::Show(id)),
            ("PUT", "/keys/ID", "", Route::Release, release(Fence::Any, 0)),
            ("PUT", "/keys/ID", "*", Route::Release, release(Fence::Any, 0)),
            (
                "PUT",
                "/keys/ID?cooldown=1m",
                "\"7\"",
                Route::Release,
                release(Fence::One(7), 60_000),
            ),
            ("PUT", "/keys/ID/lease", "\"0\"", Route::Renew, renew(Fence::One(0), None)),
            ("PUT", "/keys/ID/lease?lease=2s", "", Route::Renew, renew(Fence::Any, Some(2000))),
            ("DELETE", "/keys/ID", "\"9\"", Route::Delete, Operation::Delete(id, Fence::One(9))),
            ("PUT", "/keepalive/ID", "\"9\"", Route::KeepAlive, Operation::KeepAlive(id)),
        ] {
            let expected = format!("{route:?} {operation:?}").replace(ID, "ID");
            for (begin, pool) in [("", ""), ("/pools/default", ""), ("/pools/own", "own ")] {
                let (target, expected) = (format!("{begin}{target}"), format!("{pool}{expected}"));
                let found = of(method, &target, if_match);
                assert_eq!(found, Some(expected), "{method} {target} {if_match}");
            }
        }
    }

    #[test]
    fn each_pool_has_limits_of_its_own() {
        assert!(of("GET", "/pools/own/keys?lease=2m", "").is_some());
        assert_eq!(of("GET", "/pools/default/keys?lease=2m", ""), None);
    }

    #[test]
    fn the_router_refuses_or_answers_the_rest() {
        for (method, target, if_match) in [
            ("HEAD", "/keys/ID", ""),
            ("GET", "/keys?count=2", ""),
            ("POST", "/leases?count=2", ""),
            ("GET", "/leases", ""),
            ("GET", "/keys?", ""),
            ("GET", "/keys?lease", ""),
            ("GET", "/keys?leese=1s", ""),
            ("GET", "/keys?lease=1s&lease=2s", ""),
            ("GET", "/keys?lease=2m", ""),
            ("GET", "/keys?wait=0ms", ""),
            ("GET", "/keys?wait=61s", ""),
            ("GET", "/keys?l%65ase=1s", ""),
            ("GET", "/keys?lease=%31s", ""),
            ("GET", "/keys?lease=1m+30s", ""),
            ("GET", "/keys?label=plan%3Apro", ""),
            ("GET", "/keys?label=plan:a+b", ""),
            ("GET", "/keys?label=plan:\"pro\"", ""),
            ("GET", "/keys?label=plan:pro#x", ""),
            ("GET", "/keys?label=plan:größe", ""),
            ("GET", "/keys?label=plan", ""),
            ("GET", "/keys?label=a:b&label=a:b", ""),
            ("GET", "/keys?holder=", ""),
            ("GET", "/keys?holder=<a>", ""),
            ("GET", "/keys?holder=a&holder=a", ""),
            ("POST", "/keys?count=3", ""),
            ("PUT", "/keys", ""),
            ("GET", "/keys/ID?x=1", ""),
            ("GET", "/keys/x", ""),
            ("PUT", "/keys/ID?cooldown=61m", ""),
            ("PUT", "/keys/ID", "\"7\", \"8\""),
            ("PUT", "/keys/ID", "7"),
            ("PUT", "/keys/ID", "\"07\""),
            ("PUT", "/keys/ID", "W/\"7\""),
            ("PUT", "/keys/ID", "\"\""),
            ("PUT", "/keys/ID", "\""),
            ("PUT", "/keys/ID", "\"99999999999999999999\""),
            ("GET", "/keys/ID/lease", ""),
            ("PUT", "/keys//lease", ""),
            ("PUT", "/keys/ID/lease?wait=1s", ""),
            ("DELETE", "/keys/ID?x", ""),
            ("POST", "/keys/ID", ""),
            ("PUT", "/keepalive", ""),
            ("PUT", "/keepalive/ID?x=1", ""),
            ("PUT", "/keepalive/ID/x", ""),
            ("GET", "/stats", ""),
            ("GET", "/pools/else/keys", ""),
            ("GET", "/pools/own/keys?lease=3m", ""),
            ("GET", "/pools//keys", ""),
            ("GET", "/pools/own", ""),
            ("GET", "/pools/own/pools/own/keys", ""),
            ("GET", "*", ""),
        ] {
            assert_eq!(of(method, target, if_match), None, "{method} {target} {if_match}");
        }
    }
}
