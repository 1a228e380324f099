//! Keys whose leases lapse all at once while the server is so busy that its sweep is late.

use std::thread;
use std::time::{Duration, Instant};

use super::create;
use super::evenness::{DEVIATIONS_MAX, unevenness_of_keys};
use super::flood::{Flood, meanwhile};
use crate::client::{Answer, Client};
use crate::server::Server;

const KEYS: usize = 100;
const LEASE: Duration = Duration::from_millis(200);
/// The server counts in whole milliseconds.
const SLACK: Duration = Duration::from_millis(2);
const ROUNDS: usize = 5;
const DRAWS: usize = 2000;
/// How long clients may get no key on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const LEASE_ONE: &str = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";

fn id(answer: &Answer) -> Option<String> {
    (answer.status == 200).then(|| answer.body.split('"').nth(3).expect("an id").to_owned())
}

/// Leases all keys, and waits until all these leases have lapsed.
fn let_all_lapse(client: &mut Client) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        // All leases begin within a part of the time that one lasts, or it is tried again.
        let begin = Instant::now();
        let leased = client.pipeline(&LEASE_ONE.repeat(KEYS), KEYS);
        let over = Instant::now() + LEASE + SLACK;
        thread::sleep(over.saturating_duration_since(Instant::now()));
        if leased.iter().all(|answer| answer.status == 200) {
            return;
        }
        assert!(begin < give_up, "keys do not come back when their leases have lapsed");
    }
}

/// Leases a key and releases it, again and again.
fn draw(client: &mut Client, drawn: &mut Vec<String>) {
    let mut next = id(&client.pipeline(LEASE_ONE, 1)[0]);
    for _ in 0..DRAWS {
        let key = next.expect("all keys are free");
        let release = format!("PUT /keys/{key} HTTP/1.1\r\nHost: a\r\n\r\n");
        next = id(&client.pipeline(&(release + LEASE_ONE), 2)[1]);
        drawn.push(key);
    }
    client.send("PUT", &format!("/keys/{}", next.expect("all keys are free")), "").unwrap();
}

#[test]
fn all_keys_whose_leases_lapsed_at_once_are_drawn_evenly() {
    let server = Server::start(&["--lease-ttl", "200ms"]);
    let mut client = server.connect();
    let keys = create(&mut client, KEYS);
    // This connection must stay on the hot path, which a request to the router would end.
    let (mut client, mut drawn) = (server.connect(), Vec::new());
    let busy = Flood::of_slow_requests(128);
    meanwhile(server.address, &[busy, busy], || {
        for _ in 0..ROUNDS {
            let_all_lapse(&mut client);
            draw(&mut client, &mut drawn);
        }
    });
    let unevenness = unevenness_of_keys(&keys, &drawn);
    assert!(
        unevenness <= DEVIATIONS_MAX,
        "{} draws of {KEYS} keys are {unevenness:.1} standard deviations off",
        drawn.len()
    );
}
