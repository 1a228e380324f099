//! The server as it runs, a process of its own, under clients that race, send garbage, stall and flood.
//!
//! The tests run one after the other, since each needs the machine to itself: see
//! [`server::Server::start`].

#[path = "../checker/mod.rs"]
mod checker;
mod client;
mod dates;
mod disk;
#[path = "../engine/mod.rs"]
mod engine;
mod expiry;
mod folder;
mod history;
mod hostile;
mod over;
mod restarts;
mod server;
mod servers;
mod soak;
mod stop;
mod sums;

/// The process serves, counts, and ends as it should: every further test relies on that.
#[test]
fn a_server_starts_serves_and_stops() {
    let mut server = server::Server::start(&["--max-keys", "1"]);
    let mut client = server.connect();
    assert_eq!(client.send("POST", "/keys", "").unwrap().status, 201);
    let answer = client.send("GET", "/keys", "").unwrap();
    assert_eq!((answer.status, answer.header("etag")), (200, Some("\"1\"")));
    assert!(answer.body.starts_with(r#"{"keyId":""#), "{answer:?}");
    assert!(server.resident_bytes() > 1_000_000);
    server.signal("TERM");
    assert!(server.wait().success());
    assert!(client.read().is_err(), "an answer to no request");
}
