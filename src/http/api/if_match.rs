//! `If-Match`: the generations of a key that a request is meant for (RFC 9110, section 13.1.1).

use axum::extract::FromRequestParts;
use axum::http::header::{HeaderMap, HeaderValue, IF_MATCH};
use axum::http::request::Parts;

use crate::http::wire::Problem;
use crate::key::Fence;

/// The generations in `If-Match`. `None` means any generation, as with `*` or without the field.
#[derive(Debug, PartialEq)]
pub(in crate::http) struct IfMatch(Option<Vec<u64>>);

impl IfMatch {
    pub(in crate::http) fn fence(&self) -> Fence<'_> {
        self.0.as_deref().map_or(Fence::Any, Fence::OneOf)
    }

    fn read(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<_> = headers.get_all(IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
        if matches!(lines[..], [] | [b"*"]) {
            return Some(Self(None));
        }
        let (mut generations, mut has_tag) = (Vec::new(), false);
        for line in lines {
            has_tag |= read_list(line, &mut generations)?;
        }
        has_tag.then_some(Self(Some(generations)))
    }
}

/// Reads `#entity-tag`, and returns whether there was one. A weak tag never matches, nor does a tag that is
/// not a generation.
fn read_list(mut list: &[u8], generations: &mut Vec<u64>) -> Option<bool> {
    let mut has_tag = false;
    loop {
        list = list.trim_ascii_start();
        let Some((first, rest)) = list.split_first() else { break };
        if *first == b',' {
            list = rest;
            continue;
        }
        let (is_weak, quoted) = list.strip_prefix(b"W/").map_or((false, list), |tag| (true, tag));
        let rest = quoted.strip_prefix(b"\"")?;
        let length = rest.iter().position(|byte| *byte == b'"')?;
        let (tag, rest) = (&rest[..length], &rest[length + 1..]);
        if !tag.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) {
            return None;
        }
        has_tag = true;
        if !is_weak && let Some(generation) = generation(tag) {
            generations.push(generation);
        }
        list = rest.trim_ascii_start();
        if !list.is_empty() && !list.starts_with(b",") {
            return None;
        }
    }
    Some(has_tag)
}

/// The generation in a tag that this server made.
fn generation(tag: &[u8]) -> Option<u64> {
    let is_ours =
        tag.iter().all(u8::is_ascii_digit) && (tag.len() == 1 || tag.first() != Some(&b'0'));
    str::from_utf8(tag).ok().filter(|_| is_ours)?.parse().ok()
}

/// The generation in `If-Match`, if it names just one. O(length).
pub(in crate::http) fn only_generation(if_match: &[u8]) -> Option<u64> {
    generation(if_match.strip_prefix(b"\"")?.strip_suffix(b"\"")?)
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers).ok_or(Problem::MalformedIfMatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<IfMatch> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, line.parse().unwrap());
        }
        IfMatch::read(&headers)
    }

    #[test]
    fn no_field_and_a_star_mean_any_generation() {
        assert_eq!(read(&[]), Some(IfMatch(None)));
        assert_eq!(read(&["*"]), Some(IfMatch(None)));
    }

    #[test]
    fn lists_are_read_whole() {
        for (lines, generations) in [
            (&["\"7\""][..], &[7][..]),
            (&["\"7\", \"9\""], &[7, 9]),
            (&[" , \"7\" ,,\"9\","], &[7, 9]),
            (&["\"7\"", "\"9\""], &[7, 9]),
            (&["", "\"9\"", ","], &[9]),
            (&["W/\"7\", \"9\""], &[9]),
            (&["\"a,b\", \"x\""], &[]),
            (&["\"\""], &[]),
            (&["\"07\", \"+7\", \"0\", \"99999999999999999999\""], &[0]),
        ] {
            assert_eq!(read(lines), Some(IfMatch(Some(generations.to_vec()))), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for line in
            ["", ",", "7", "\"7", "7\"", "\"7\" \"9\"", "\"7\"x", "w/\"7\"", "\"7\", *", "\"a b\""]
        {
            assert_eq!(read(&[line]), None, "{line}");
        }
        assert_eq!(read(&["*", "\"7\""]), None);
    }
}
