//! Ids as text: the oracle is the uuid crate, and the bytes that are printed.

use rand::RngExt;
use token_orchestrator::key::KeyId;
use uuid::Uuid;

use crate::fuzz;
use crate::mutate::mutate_text;

const CORPUS: [&str; 4] = [
    "936da01f-9abd-4d9d-80c7-02af85c822a8",
    "FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF",
    "00000000-0000-0000-0000-000000000000",
    "936DA01F-9abd-4D9D-80c7-02AF85C822A8",
];
const WORDS: [&str; 10] = ["-", "--", "g", "G", "{", "}", "urn:uuid:", "\0", " ", "é"];

#[test]
fn only_hyphenated_uuids_are_ids() {
    let mut read = 0;
    fuzz(
        400,
        |random| mutate_text(random, &CORPUS, &WORDS),
        |text| {
            let is_hyphenated = text.len() == 36
                && text.bytes().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => byte.is_ascii_hexdigit(),
                });
            let expected = is_hyphenated.then(|| Uuid::parse_str(text).unwrap());
            let id = text.parse::<KeyId>().ok();
            assert_eq!(id.map(|id| *id.as_bytes()), expected.map(Uuid::into_bytes));
            if let Some(id) = id {
                read += 1;
                assert_eq!(id.to_string(), text.to_lowercase());
                assert_eq!(id.to_string().parse(), Ok(id));
                assert_eq!(KeyId::from_bytes(*id.as_bytes()), id);
            }
        },
    );
    assert!(read > 100, "hardly any was an id");
}

#[test]
fn every_id_is_read_as_it_is_printed() {
    fuzz(400, RngExt::random::<[u8; 16]>, |bytes| {
        let id = KeyId::from_bytes(*bytes);
        assert_eq!(id.to_string(), Uuid::from_bytes(*bytes).to_string());
        assert_eq!(id.to_string().parse(), Ok(id));
        let made = Uuid::from_bytes(*KeyId::from_random_bytes(*bytes).as_bytes());
        assert_eq!((made.get_version_num(), made.get_variant()), (4, uuid::Variant::RFC4122));
    });
}
