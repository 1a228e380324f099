//! `If-Match`: the oracle is a regular expression for the grammar (RFC 9110, section 8.8.3).

use rand::RngExt;
use rand::rngs::SmallRng;
use regex::bytes::Regex;

use crate::fuzz;
use crate::mutate::mutate;
use crate::server::Server;

const CORPUS: [&str; 9] = [
    "\"1\"",
    "*",
    "\"1\", \"2\"",
    "W/\"1\"",
    "\"2\",\"1\"",
    "\"\"",
    "\"a,b\" , W/\"1\"",
    ",,\"1\"",
    "\"01\"",
];
const WORDS: [&str; 14] = [
    "\"",
    ",",
    " ",
    "\t",
    "W/",
    "w/",
    "*",
    "1",
    "\"1\"",
    "\"2\"",
    "\u{e9}",
    "18446744073709551616",
    "\\",
    "W",
];

/// What a field may contain (RFC 9110, section 5.5), without white space around it, which is not part of
/// the value.
fn value(random: &mut SmallRng) -> Vec<u8> {
    let mut value = mutate(random, &CORPUS, &WORDS);
    value.retain(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    value.trim_ascii().to_vec()
}

/// One line or several.
fn lines(random: &mut SmallRng) -> Vec<Vec<u8>> {
    let count = if random.random_range(0..4) == 0 { 2 } else { 1 };
    (0..count).map(|_| value(random)).collect()
}

#[test]
fn a_list_of_tags_is_read_as_the_grammar_says() {
    let tag = r#"((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")"#;
    let list =
        Regex::new(&format!(r"(?-u)^[\t ,]*(?:{tag}[\t ]*(?:,[\t ,]*{tag}[\t ]*)*)?[\t ,]*$"))
            .unwrap();
    // A list may have empty elements, but two tags need a comma between them, by that section.
    let tags = Regex::new(&format!("(?-u){tag}")).unwrap();
    let mut server = Server::start(1);
    let id = server.lease();
    let mut seen = std::collections::HashMap::new();
    fuzz(10, lines, |lines| {
        let fields: Vec<u8> =
            lines.iter().flat_map(|line| [b"If-Match: ", &line[..], b"\r\n"].concat()).collect();
        let status = server.ask_with("PUT", &format!("/keys/{id}/lease"), &fields, b"").status;
        let found: Vec<&[u8]> =
            lines.iter().flat_map(|line| tags.find_iter(line).map(|tag| tag.as_bytes())).collect();
        let is_list = lines.iter().all(|line| list.is_match(line)) && !found.is_empty();
        let expected = if lines[..] == [b"*".to_vec()] {
            200
        } else if !is_list {
            400
        } else if found.contains(&&b"\"1\""[..]) {
            200
        } else {
            412
        };
        assert_eq!(status, expected, "{}", String::from_utf8_lossy(&fields));
        *seen.entry(status).or_insert(0) += 1;
    });
    assert!(seen.len() == 3 && seen.values().all(|times| *times > 50), "{seen:?}");
}
