//! A client that fills a pool of its own, so that segments are filled as well and snapshots take a while. It counts its
//! keys: those whose creation was answered are there after each restart.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::history::clients::World;

/// How many keys are created at a time.
const STEP: u64 = 10_000;
/// With so many the pool is deleted, and begun once more.
const KEYS_MAX: u64 = 60_000;
/// Between two steps, and before another try to connect.
const PAUSE: Duration = Duration::from_millis(20);
const POOL: &str = "/pools/filler";

pub(super) struct Filler<'a> {
    world: &'a World,
    /// How many keys there are for sure.
    sure: u64,
    /// How many more there may be.
    unsure: u64,
    /// Whether there may be no pool.
    may_be_gone: bool,
    /// How often it has looked whether its keys are there, after a connection broke.
    pub(super) looks: u64,
}

impl<'a> Filler<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, sure: 0, unsure: 0, may_be_gone: true, looks: 0 }
    }

    /// Fills the pool until the race is over.
    pub(super) fn run(&mut self) {
        while !self.is_over() {
            // The server is gone, or starting.
            if self.fill().is_err() {
                thread::sleep(PAUSE);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.world.is_over.load(Relaxed)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut client = Client::try_to(self.world.addresses[0])?;
        self.look(&mut client)?;
        while !self.is_over() {
            if self.sure > KEYS_MAX {
                self.may_be_gone = true;
                send(&mut client, "DELETE", "?keys=delete", "", &[200])?;
                self.sure = 0;
                self.make(&mut client)?;
            }
            self.unsure += STEP;
            send(&mut client, "POST", "/keys", &format!("{{\"count\":{STEP}}}"), &[201])?;
            (self.sure, self.unsure) = (self.sure + STEP, self.unsure - STEP);
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Asserts that all its keys are there, and none that it has not asked for.
    pub(super) fn look(&mut self, client: &mut Client) -> io::Result<()> {
        if send(client, "GET", "", "", &[200, 404])? == 404 {
            assert!(self.may_be_gone, "the pool is lost");
            (self.sure, self.unsure) = (0, 0);
            return self.make(client);
        }
        let answer = client.send("GET", &format!("{POOL}/stats"), "")?;
        if answer.status == 503 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let keys = crate::client::Stats::of(&answer).number("keys");
        let least = if self.may_be_gone { 0 } else { self.sure };
        let most = self.sure + self.unsure;
        assert!((least..=most).contains(&keys), "{keys} keys, not from {least} to {most}");
        (self.sure, self.unsure, self.may_be_gone) = (keys, 0, false);
        self.looks += 1;
        Ok(())
    }

    fn make(&mut self, client: &mut Client) -> io::Result<()> {
        send(client, "PUT", "", r#"{"keyTtl":"never"}"#, &[200, 201])?;
        self.may_be_gone = false;
        Ok(())
    }
}

/// Sends a request about the pool. Its answer has one of these statuses, or comes from a server that starts or stops.
fn send(
    client: &mut Client,
    method: &str,
    path: &str,
    body: &str,
    statuses: &[u16],
) -> io::Result<u16> {
    let answer = client.send(method, &format!("{POOL}{path}"), body)?;
    if answer.status == 503 {
        assert!(["/starting\"", "/stopping\""].iter().any(|why| answer.body.contains(why)));
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    assert!(statuses.contains(&answer.status), "{method} {path}: {}", answer.head);
    Ok(answer.status)
}
