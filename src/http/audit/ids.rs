//! What a client calls its request: `X-Request-Id`, and `traceparent` of the W3C's Trace Context, level 1.

use rand::RngExt;

/// The longest `X-Request-Id` that is taken over, in bytes.
const REQUEST_ID_MAX: usize = 128;
/// The length of a `traceparent` of version 00; later versions may only append to it.
const TRACEPARENT_LEN: usize = 55;

/// The values that came with a request. Of two with the same name nobody knows which one counts, so both are
/// as good as malformed.
#[derive(Clone, Copy, Default)]
pub(in crate::http) struct Sent<'a> {
    request_id: Option<&'a [u8]>,
    traceparent: Option<&'a [u8]>,
}

impl<'a> Sent<'a> {
    pub(in crate::http) const REQUEST_ID: &'static str = "x-request-id";
    pub(in crate::http) const TRACEPARENT: &'static str = "traceparent";

    pub(in crate::http) fn add_request_id(&mut self, value: &'a [u8]) {
        add(&mut self.request_id, value);
    }

    pub(in crate::http) fn add_traceparent(&mut self, value: &'a [u8]) {
        add(&mut self.traceparent, value);
    }

    /// The id that the client has sent, if it is well-formed, else a random UUID. O(length).
    pub(super) fn request_id(self) -> Box<str> {
        let is_visible = |id: &&[u8]| id.iter().all(u8::is_ascii_graphic);
        let sent = self.request_id.filter(|id| (1..=REQUEST_ID_MAX).contains(&id.len()));
        let sent = sent.filter(is_visible).and_then(|id| str::from_utf8(id).ok());
        sent.map_or_else(new_id, Box::from)
    }

    /// The trace that the request belongs to, if the client has named one in the right form. O(1).
    pub(super) fn trace(self) -> Option<Trace> {
        Trace::of(self.traceparent?)
    }
}

fn add<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) {
    *place = Some(if place.is_none() { value } else { b"" });
}

fn new_id() -> Box<str> {
    let id = uuid::Builder::from_random_bytes(rand::rng().random()).into_uuid();
    Box::from(&*id.hyphenated().encode_lower(&mut [0; uuid::fmt::Hyphenated::LENGTH]))
}

/// The trace of a request, and the step in it that sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) id: u128,
    pub(super) parent_id: u64,
}

impl Trace {
    /// Reads `version-trace-parent-flags`, each in lower-case hexadecimal digits.
    fn of(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(TRACEPARENT_LEN)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let mut digits = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length)?;
            let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.iter().all(is_digit).then(|| str::from_utf8(part).ok())?
        };
        let (version, id, parent_id, _flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
        let is_whole = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let id = u128::from_str_radix(id, 16).ok()?;
        let parent_id = u64::from_str_radix(parent_id, 16).ok()?;
        (is_whole && id != 0 && parent_id != 0).then_some(Self { id, parent_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_well_formed_id_is_taken_over_and_any_other_one_replaced() {
        let id = |values: &[&[u8]]| {
            let mut sent = Sent::default();
            for value in values {
                sent.add_request_id(value);
            }
            sent.request_id().into_string()
        };
        let longest = "~".repeat(REQUEST_ID_MAX);
        for sent in ["!", "a\"b\\", &longest] {
            assert_eq!(id(&[sent.as_bytes()]), sent);
        }
        let longer = longest.clone() + "~";
        let malformed: [&[&[u8]]; 8] = [
            &[],
            &[b""],
            &[longer.as_bytes()],
            &[b"a b"],
            &[b"a\tb"],
            &[b"\x7f"],
            &["ä".as_bytes()],
            &[b"a", b"b"],
        ];
        for values in malformed {
            let made = id(values);
            assert_eq!((made.len(), &made[14..15]), (36, "4"), "{values:?}: {made}");
        }
        assert_ne!(id(&[]), id(&[]));
    }

    #[test]
    fn a_traceparent_is_read_as_level_1_says() {
        let trace = |value: &str| Trace::of(value.as_bytes());
        let expected = Trace {
            id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            parent_id: 0xb7ad_6b71_6920_3331,
        };
        let later = TRACEPARENT.replacen("00", "cc", 1);
        for value in [TRACEPARENT, &later, &format!("{later}-what-comes")] {
            assert_eq!(trace(value), Some(expected), "{value}");
        }
        for value in [
            "",
            "00",
            &TRACEPARENT[1..],
            &TRACEPARENT[..54],
            &format!("{TRACEPARENT}-"),
            &format!("{later}x"),
            &TRACEPARENT.replacen("00", "ff", 1),
            &TRACEPARENT.replacen("0af", "0AF", 1),
            &TRACEPARENT.replacen("0af", "+af", 1),
            &TRACEPARENT.replacen("01", "0g", 1),
            &TRACEPARENT.replace('-', "0"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(trace(value), None, "{value}");
        }
        let mut twice = Sent::default();
        for value in [TRACEPARENT; 2] {
            twice.add_traceparent(value.as_bytes());
        }
        assert_eq!(twice.trace(), None);
    }
}
