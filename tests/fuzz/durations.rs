//! Durations, as options and as parameters of a query: the oracle adds up the parts by itself.

use rand::RngExt;
use token_orchestrator::config;

use crate::fuzz;
use crate::mutate::mutate_text;
use crate::server::Server;

const CORPUS: [&str; 12] = [
    "60s",
    "1500ms",
    "5m",
    "1m30s",
    "30d",
    "365d",
    "1ms",
    "1h 5m",
    "1.5s",
    "2592000000ms",
    "1day",
    "1month",
];
const WORDS: [&str; 24] = [
    "0",
    "1",
    "9",
    "99999999999",
    "18446744073709551615",
    "-",
    "+",
    ".",
    " ",
    "e",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "w",
    "M",
    "y",
    "us",
    "ns",
    "min",
    "sec",
    "\u{b5}s",
    "\u{661}",
];

/// Milliseconds of one unit, and how many of it there are in one.
fn unit_ns(name: &str) -> Option<u128> {
    const SECOND: u128 = 1_000_000_000;
    Some(match name {
        "nanos" | "nsec" | "ns" => 1,
        "usec" | "us" | "\u{b5}s" => 1000,
        "millis" | "msec" | "ms" => 1_000_000,
        "seconds" | "second" | "secs" | "sec" | "s" => SECOND,
        "minutes" | "minute" | "min" | "mins" | "m" => 60 * SECOND,
        "hours" | "hour" | "hrs" | "hr" | "h" => 3600 * SECOND,
        "days" | "day" | "d" => 86_400 * SECOND,
        "weeks" | "week" | "wks" | "wk" | "w" => 604_800 * SECOND,
        "months" | "month" | "M" => 2_630_016 * SECOND,
        "years" | "year" | "yrs" | "yr" | "y" => 31_557_600 * SECOND,
        _ => return None,
    })
}

/// The sum of numbers with units, in nanoseconds; `None` if this simple reading does not cover it.
fn naive(text: &str) -> Option<u128> {
    let mut rest = text.trim_matches(' ');
    let mut sum = 0;
    while !rest.is_empty() {
        // Spaces may separate digits.
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != ' ')?;
        let number: u128 = rest[..digits].replace(' ', "").parse().ok()?;
        rest = rest[digits..].trim_start_matches(' ');
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(rest.len());
        sum += number * unit_ns(&rest[..letters])?;
        rest = rest[letters..].trim_start_matches(' ');
    }
    (sum > 0).then_some(sum)
}

/// What the oracle says of a duration up to so many milliseconds.
fn expected(text: &str, max_ms: u64) -> Option<u64> {
    let ns = naive(text).filter(|ns| ns % 1_000_000 == 0)?;
    u64::try_from(ns / 1_000_000).ok().filter(|ms| *ms <= max_ms)
}

/// Whether the oracle knows this form: it has no fractions and no long numbers.
fn is_simple(text: &str) -> bool {
    text.len() <= 24
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ' || c == '\u{b5}')
        && text.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() <= 11)
}

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_duration_is_the_sum_of_its_parts() {
    let mut read = 0;
    fuzz(
        400,
        |random| (mutate_text(random, &CORPUS, &WORDS), random.random_range(0..100_000)),
        |(text, max_ms)| {
            let max_ms = u32::try_from(*max_ms).unwrap();
            // Any text is read without a panic, within its range, and alike by each function.
            let (life, lease) = (config::parse_key_ttl_ms(text), config::parse_lease_ttl_ms(text));
            let some = config::parse_ms_up_to(text, max_ms);
            assert!(life.as_ref().map_or(true, |ms| (1..=365 * DAY_MS).contains(ms)));
            assert!(lease.as_ref().map_or(true, |ms| (1..=30 * DAY_MS).contains(&u64::from(*ms))));
            assert_eq!(lease, config::parse_max_ms(text));
            assert_eq!(
                some.ok(),
                lease.as_ref().ok().copied().filter(|ms| *ms <= max_ms),
                "up to {max_ms}"
            );
            if is_simple(text) {
                assert_eq!(life.ok(), expected(text, 365 * DAY_MS), "as a life");
                read += u32::from(lease.is_ok());
                assert_eq!(lease.ok().map(u64::from), expected(text, 30 * DAY_MS), "as a lease");
            }
        },
    );
    assert!(read > 100, "hardly any was a duration");
}

/// Percent-encodes all but letters and digits.
fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[test]
fn parameters_are_read_as_options_are() {
    let mut server = Server::start(1);
    let (mut good, mut bad) = (0, 0);
    fuzz(
        6,
        |random| mutate_text(random, &CORPUS, &WORDS),
        |text| {
            for (path, name, max_ms) in [
                ("/keys", "lease", 60_000),
                ("/keys/x/lease", "lease", 60_000),
                ("/keys/x", "cooldown", 3_600_000),
            ] {
                let method = if path == "/keys" { "GET" } else { "PUT" };
                let status =
                    server.ask(method, &format!("{path}?{name}={}", encode(text)), "", b"").status;
                let is_good = config::parse_ms_up_to(text, max_ms).is_ok();
                // No key is free, and none has the id x.
                assert_eq!(status, if is_good { 404 } else { 400 }, "{path} {name}");
                if is_good { good += 1 } else { bad += 1 }
            }
        },
    );
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
}

/// Counts of a query: from 1 to 100000, in digits.
#[test]
fn counts_are_whole_numbers() {
    let corpus = ["1", "100000", "99999", "0", "7", "100001", "+5", "007"];
    let words = ["0", "1", "-", "+", ".", " ", "e", "18446744073709551616", "\u{661}", "x", "_"];
    let mut server = Server::start(1);
    let mut good = 0;
    fuzz(
        6,
        |random| mutate_text(random, &corpus, &words),
        |text| {
            let digits = text.strip_prefix('+').unwrap_or(text);
            let significant = digits.trim_start_matches('0');
            let is_good = !significant.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (significant.len() < 6 || significant == "100000");
            let status =
                server.ask("GET", &format!("/keys?count={}", encode(text)), "", b"").status;
            assert_eq!(status, if is_good { 404 } else { 400 });
            good += u32::from(is_good);
        },
    );
    assert!(good > 100, "hardly any was a count");
}
