//! Whole connections: the oracle of the hot path is hyper, and that of a cut request is the whole one.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::fuzz;
use crate::mutate::mutate;
use crate::server::Server;

/// Stands for the key that each server has.
const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";
/// Leads a connection to hyper.
const TO_HYPER: &str = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";

const CORPUS: [&str; 19] = [
    "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    "PUT /keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PUT /keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\nIf-Match: \"1\"\r\n\r\n",
    "DELETE /keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "PUT /keepalive/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\nX: y\r\nZ:\r\n\r\n",
    "PUT /keepalive/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "GET /keys/936DA01F-9ABD-4D9D-80C7-02AF85C822A8 HTTP/1.1\r\nHost: a\r\n\r\nGET /keys/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT /keys/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdGET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /keys HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    "GET /keys HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /pools/default/keys HTTP/1.1\r\nHost: a\r\n\r\nGET /pools/default/keys?lease=5s HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT /pools/default/keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT /pools/none/keepalive/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /keys?label=plan:pro&holder=worker-7 HTTP/1.1\r\nHost: a\r\n\r\nGET /keys?holder=a&label=plan:free HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /pools/default/leases?holder=worker-7&lease=5s HTTP/1.1\r\nHost: a\r\n\r\nGET /keys/936da01f-9abd-4d9d-80c7-02af85c822a8 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /keys?holder=worker-7 HTTP/1.1\r\nHost: a\r\n\r\nDELETE /leases?holder=worker-7 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /keys HTTP/1.1\r\nHost: a\r\nContent-Length: 49\r\n\r\n{\"keys\":[{\"value\":\"sk-1\",\"labels\":{\"plan\":\"pro\"}}]}",
    "GET /keys HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /keys?lease=5s HTTP/1.1\r\nHost: a\r\n\r\n",
];
const WORDS: [&str; 40] = [
    "GET ",
    "PUT ",
    "DELETE ",
    "HEAD ",
    "/keys",
    "/keys/",
    "/keepalive/",
    "/pools/default",
    "/leases",
    "label=plan:pro",
    "holder=a",
    "&",
    "/pools/",
    "?",
    "#",
    "%",
    " HTTP/1.1",
    " HTTP/1.0",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ": ",
    "\r\n\r\n",
    "\0",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: h2c\r\n",
    "Expect: x\r\n",
    "If-Match: *\r\n",
    "X: y\r\n",
    "936da01f-9abd-4d9d-80c7-02af85c822a8",
    "0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\n",
];

/// A few requests, one behind the other, and where they are cut.
fn requests(random: &mut SmallRng) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    for _ in 0..=random.random_range(0..3) {
        bytes.extend(mutate(random, &CORPUS, &WORDS));
    }
    // hyper may notice sooner or later than the hot path that an incomplete head is malformed.
    bytes.extend(b"\n\n\r\n\r\n");
    let mut cuts: Vec<_> =
        (0..random.random_range(0..3)).map(|_| random.random_range(0..bytes.len() + 1)).collect();
    cuts.sort_unstable();
    (bytes, cuts)
}

/// The bytes with the id that this server's key has.
fn with_id(bytes: &[u8], id: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(ID.len()).position(|part| part == ID.as_bytes()) {
        bytes.splice(at..at + ID.len(), id.bytes());
    }
    let (from, to) = (ID.to_uppercase(), id.to_uppercase());
    while let Some(at) = bytes.windows(from.len()).position(|part| part == from.as_bytes()) {
        bytes.splice(at..at + from.len(), to.bytes());
    }
    bytes
}

/// Whether the id is the tail of a percent escape. Each server has an id of its own: the escape would then
/// stand for another character on each.
fn escapes_id(bytes: &[u8]) -> bool {
    let bytes = bytes.to_ascii_lowercase();
    let escapes = |at: usize| bytes[..at].ends_with(b"%") || bytes[..at - 1].ends_with(b"%");
    (1..bytes.len()).any(|at| bytes[at..].starts_with(ID.as_bytes()) && escapes(at))
}

/// What a server answers, and the id of its key.
struct Answers {
    text: String,
    id: String,
}

impl Answers {
    /// Whether two servers answer alike. An answer may quote a part of an id: a name that is too long is cut.
    fn are_like(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.text.as_bytes(), other.text.as_bytes());
        while let ([one, ..], [two, ..]) = (left, right) {
            let of_ids = left.iter().zip(self.id.bytes()).zip(right.iter().zip(other.id.bytes()));
            let of_ids = of_ids.take_while(|((left, own), (right, others))| {
                left.eq_ignore_ascii_case(own) && right.eq_ignore_ascii_case(others)
            });
            let length = of_ids.count();
            if length == 0 && one != two {
                return false;
            }
            (left, right) = (&left[length.max(1)..], &right[length.max(1)..]);
        }
        left.len() == right.len()
    }
}

/// The same bytes give the same answers, whichever path they take and however they are cut.
#[test]
fn the_hot_path_answers_as_hyper_does() {
    // Each server has one key, which earlier requests have not touched.
    let servers = [(); 3].map(|()| Server::start(1));
    let mut seen = std::collections::HashMap::<String, u32>::new();
    fuzz(6, requests, |(bytes, cuts)| {
        if escapes_id(bytes) {
            return;
        }
        let answers = |server: &Server, first: &str, cuts: &[usize]| {
            server.clock.advance_ms(10 * 60 * 1000);
            let id = server.import();
            Answers { text: server.exchange(first, &with_id(bytes, &id), cuts), id }
        };
        let hot = answers(&servers[0], "", &[]);
        let check = |what, answers: Answers| {
            assert!(hot.are_like(&answers), "{what}:\n{}\n{}", hot.text, answers.text);
        };
        check("hyper answers differently", answers(&servers[1], TO_HYPER, &[]));
        check("cut, it is answered differently", answers(&servers[2], "", cuts));
        for answer in hot.text.split("HTTP/1.1 ").skip(1) {
            *seen.entry(answer[..3].to_owned()).or_default() += 1;
        }
    });
    assert!(["200", "400", "404"].iter().all(|status| seen[*status] > 100), "{seen:?}");
}
