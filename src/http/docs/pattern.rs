//! Regular expressions (ECMA-262) for the description of the API.
//!
//! A schema has no other way to limit a duration such as `30s`. Operators set the limits, so the expression is
//! made from them: a client that takes its values from the document is never refused.

/// An `ETag` of this server.
pub(super) const ETAG: &str = r#"^"[0-9]+"$"#;
/// Durations in one unit, from a millisecond to `max_ms` milliseconds.
///
/// The server also reads sums such as 1m30s, but this form is the recommended one.
pub(super) fn duration(max_ms: u64) -> String {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let reached = UNITS.iter().filter(|(_, ms)| *ms <= max_ms);
    let units: Vec<_> =
        reached.map(|(unit, ms)| format!("({}){unit}", numbers(max_ms / ms))).collect();
    format!("^({})$", units.join("|"))
}

/// Numbers from 1 to `max`.
fn numbers(max: u64) -> String {
    let max = max.to_string();
    let mut parts = Vec::new();
    if max.len() > 1 {
        parts.push(format!("[1-9]{}", digits(0, max.len() - 2)));
    }
    // Numbers with as many digits as the greatest, by the first digit that is less.
    for (index, digit) in max.char_indices() {
        let least = if index == 0 { '1' } else { '0' };
        if digit > least {
            let less = char::from(digit as u8 - 1);
            let following = max.len() - index - 1;
            parts.push(format!(
                "{}[{least}-{less}]{}",
                &max[..index],
                digits(following, following)
            ));
        }
    }
    parts.push(max);
    parts.join("|")
}

fn digits(min: usize, max: usize) -> String {
    match (min, max) {
        (_, 0) => String::new(),
        (1, 1) => "[0-9]".to_owned(),
        (min, max) if min == max => format!("[0-9]{{{max}}}"),
        (min, max) => format!("[0-9]{{{min},{max}}}"),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::config;

    #[test]
    fn the_pattern_matches_the_durations_that_are_read() {
        let numbers = |max: u64| {
            let tens = (0..10).map(|power| 10_u64.pow(power));
            let mut all: Vec<_> =
                tens.chain([max]).flat_map(|n| [n.saturating_sub(1), n, n + 1]).collect();
            all.extend((1..=9).map(|digit| digit * max.max(9) / 9));
            all
        };
        for max_ms in [1_u32, 7, 10, 999, 1000, 45_678, 60_000, 3_600_000, 2_592_000_000] {
            let pattern = Regex::new(&duration(u64::from(max_ms))).unwrap();
            for (unit, ms) in
                [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
            {
                for number in numbers(u64::from(max_ms) / ms) {
                    let text = format!("{number}{unit}");
                    let is_read = config::parse_ms_up_to(&text, max_ms).is_ok();
                    assert_eq!(pattern.is_match(&text), is_read, "{text} up to {max_ms}");
                }
            }
        }
        assert_eq!(
            duration(60_000),
            "^(([1-9][0-9]{0,3}|[1-5][0-9]{4}|60000)ms|([1-9]|[1-5][0-9]|60)s|(1)m)$"
        );
    }
}
