//! What the server refuses, in words that fit a command line: with the options and commands that the user has.

use super::settings::with_options;
use crate::pool::PoolName;

/// How a user sends another token.
const GIVE: &str = "Give it with --token-file FILE, or in TOKEN_ORCHESTRATOR_TOKEN";

/// The message for a refusal that the server explains, in one line whatever it sends. `kind` is the last part of
/// its type, `pool` is the one that the request has named. O(length).
pub(super) fn in_words(
    kind: Option<&str>,
    title: &str,
    detail: &str,
    pool: Option<&PoolName>,
) -> String {
    let told = || format!("{title}. {detail}");
    let text = match (kind.unwrap_or_default(), pool) {
        ("no-such-pool", Some(pool)) => {
            format!("no such pool: {pool}. `pools` lists all, and `pool set {pool}` creates it.")
        }
        ("pool-not-empty", Some(pool)) => format!(
            "the pool {pool} has keys, so nothing was done: delete them first, or delete the pool with its \
             keys by --with-keys."
        ),
        ("too-many-pools", _) => {
            "the server has as many pools as its operator allows: delete one that is not needed, with `pool \
             delete NAME`, or ask the operator for more."
                .to_owned()
        }
        ("stale-lease", _) => "the key no longer has that lease: it has run out, or another client has released, \
                               leased or taken back the key. Nothing was done."
            .to_owned(),
        ("invalid-settings", _) => format!("{title}. {}", with_options(detail)),
        // The user has named no pool, and may not know that there is more than one.
        ("forbidden-pool", None) if detail.contains("the pool default") => {
            format!("{} {GIVE}, or name another pool with --pool NAME.", told())
        }
        ("forbidden" | "forbidden-pool", _) => format!("{} {GIVE}.", told()),
        _ => told(),
    };
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_what_the_user_can_type() {
        let pool = "openai".parse().ok();
        let told = |kind, detail| in_words(Some(kind), "Title", detail, pool.as_ref());
        assert!(told("no-such-pool", "GET /pools").ends_with("and `pool set openai` creates it."));
        assert!(told("pool-not-empty", "?keys=delete").ends_with("by --with-keys."));
        assert!(told("too-many-pools", "").contains("`pool delete NAME`"));
        assert_eq!(
            told("invalid-settings", "maxLease must not be shorter than leaseTtl."),
            "Title. --max-lease must not be shorter than --lease-ttl."
        );
        assert!(told("forbidden-pool", "Send one.").starts_with("Title. Send one. Give it with "));
        let of_default =
            in_words(Some("forbidden-pool"), "Title", "Not for the pool default.", None);
        assert!(of_default.ends_with("name another pool with --pool NAME."), "{of_default}");
        assert_eq!(told("busy", "a\nb"), "Title. a b");
        // One that needs the name of a pool, of a request that has none.
        assert_eq!(in_words(Some("no-such-pool"), "Title", "Detail", None), "Title. Detail");
    }
}
