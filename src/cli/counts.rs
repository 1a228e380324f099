//! The counts of a pool, in words.

use serde_json::Value;

/// The lines: where a count is in the answer, and what it counts. A heading has no count.
const LINES: &[(&str, &str)] = &[
    ("/keys", "keys"),
    ("/free", "  free"),
    ("/blocked", "  leased"),
    ("/cooling", "  cooling down"),
    ("/waiting", "requests that wait for a key"),
    ("", "since the start of the server"),
    ("/totals/created", "  keys created"),
    ("/totals/expired", "  keys expired"),
    ("/totals/deleted", "  keys deleted"),
    ("/totals/leased", "  leases begun"),
    ("/totals/released", "  leases released"),
    ("/totals/leaseTimeouts", "  leases timed out"),
    ("/totals/leasesLost", "  leases lost with their key"),
    ("/totals/staleRefusals", "  requests refused, as their lease was over"),
    ("", "entries of the indexes"),
    ("/lifeEntries", "  lives of keys"),
    ("/blockEntries", "  leases and cool-downs"),
    ("/staleHints", "  hints to keys that are not free any more"),
];

/// Each count in a line of its own. Those that this version does not know come last, by their names in the
/// answer. O(length).
pub(super) fn in_words(answer: &Value) -> String {
    let is_known = |place: &str| LINES.iter().any(|(known, _)| *known == place);
    let mut others = Vec::new();
    for (name, value) in answer.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(inner) => {
                let inner = inner.iter().map(|(inner, value)| (format!("{name}/{inner}"), value));
                others.extend(inner);
            }
            None => others.push((name.clone(), value)),
        }
    }
    others.retain(|(name, _)| !is_known(&format!("/{name}")));
    let known = LINES.iter().filter_map(|(place, words)| match *place {
        "" => Some(((*words).to_owned(), String::new())),
        place => Some(((*words).to_owned(), number(answer.pointer(place)?))),
    });
    let others = others.into_iter().map(|(name, value)| (name, number(value)));
    let mut lines: Vec<_> = known.chain(others).collect();
    // A server without indexes says nothing of them.
    let is_idle = |at: usize| lines.get(at + 1).is_none_or(|(words, _)| !words.starts_with("  "));
    let idle = (0..lines.len()).rev().filter(|at| lines[*at].1.is_empty() && is_idle(*at));
    for at in idle.collect::<Vec<_>>() {
        lines.remove(at);
    }
    let width = |of: fn(&(String, String)) -> &str| {
        lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0)
    };
    let (left, right) = (width(|line| &line.0), width(|line| &line.1));
    let line = |(words, number): &(String, String)| match number.as_str() {
        "" => words.clone(),
        number => format!("{words:<left$}  {number:>right$}"),
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A whole number with a comma after every three digits, as in 1,234,567.
pub(super) fn number(value: &Value) -> String {
    let digits = value.to_string();
    if !value.is_u64() {
        return digits;
    }
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_are_shown_in_words_and_in_columns() {
        let answer = json!({
            "keys": 1_234_567, "free": 1_000_000, "blocked": 234_560, "cooling": 7, "waiting": 0, "sleeping": -1,
            "totals": {"created": 9_999_999, "released": 100, "dreamt": 1000},
        });
        assert_eq!(
            in_words(&answer),
            "keys                           1,234,567\n\
             \x20 free                         1,000,000\n\
             \x20 leased                         234,560\n\
             \x20 cooling down                         7\n\
             requests that wait for a key           0\n\
             since the start of the server\n\
             \x20 keys created                 9,999,999\n\
             \x20 leases released                    100\n\
             sleeping                              -1\n\
             totals/dreamt                      1,000"
        );
        assert_eq!(number(&json!(u64::MAX)), "18,446,744,073,709,551,615");
    }
}
