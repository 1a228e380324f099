//! A disk that is full or fails, under the program as it runs: see `disk/faults.c` for how that is done, without being
//! root and without a disk of its own.

mod failures;
mod faults;
mod full;

use std::time::Duration;

use self::faults::Faults;
use crate::client::{Answer, Client, Stats};
use crate::server::Server;

/// How long an answer may take that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A server on such a disk, and what it has acknowledged.
struct Subject {
    /// Gone before its directory is.
    server: Server,
    disk: Faults,
    durability: &'static str,
    /// Some of the keys whose creation was answered, and how many there were.
    acknowledged: Vec<String>,
    count: u64,
}

impl Subject {
    /// On a disk with these rules.
    fn start(durability: &'static str, rules: &str) -> Self {
        let disk = Faults::new();
        disk.set(rules);
        let options = disk.options(durability);
        let server = Server::start_with(disk.command(), &options);
        Self { disk, server, durability, acknowledged: Vec::new(), count: 0 }
    }

    /// Starts the server once more, which has ended.
    fn start_again(&mut self) {
        let Self { disk, server, durability, .. } = self;
        server.start_again(disk.command(), &disk.options(durability));
    }

    fn client(&self) -> Client {
        let client = self.server.connect();
        client.stream.set_read_timeout(Some(AT_ONCE)).unwrap();
        client
    }

    /// Asks for so many keys. `None` without an answer.
    fn create(&mut self, client: &mut Client, count: u64) -> Option<Answer> {
        let answer = client.send("POST", "/keys", &format!("{{\"count\":{count}}}")).ok()?;
        if answer.status == 201 {
            let ids = answer.body.split('"').filter(|part| part.len() == 36).map(str::to_owned);
            let before = self.acknowledged.len();
            self.acknowledged.extend(ids.step_by(usize::try_from(count / 20 + 1).unwrap()));
            assert!(self.acknowledged.len() > before, "{}", answer.head);
            self.count += count;
        }
        Some(answer)
    }

    /// Starts the server once more, which has ended, and asserts that all is there that it has acknowledged.
    fn check_kept(&mut self) {
        self.disk.set("");
        self.start_again();
        let mut client = self.client();
        let keys = Stats::of(&client.send("GET", "/stats", "").unwrap()).number("keys");
        assert!(keys >= self.count, "{keys} keys are left of {}", self.count);
        for key in &self.acknowledged {
            let answer = client.send("GET", &format!("/keys/{key}"), "").unwrap();
            assert_eq!(answer.status, 200, "{key} is lost");
        }
        assert!(self.acknowledged.len() > 1, "too few keys to check");
    }

    /// Starts the server, which has ended, and does not wait until it listens.
    fn spawn_again(&mut self) {
        let Self { disk, server, durability, .. } = self;
        server.spawn_again(disk.command(), &disk.options(durability));
    }

    /// Starts the server, which has ended, and returns why it ends at once.
    fn refusal(&mut self) -> String {
        self.spawn_again();
        assert_eq!(self.server.wait().code(), Some(1));
        self.error_line()
    }

    /// The one line of a server that has ended that says why.
    fn error_line(&self) -> String {
        self.server.await_end_of_log();
        let said = self.server.said();
        let errors: Vec<_> = said.iter().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{said:?}");
        errors[0].clone()
    }
}
