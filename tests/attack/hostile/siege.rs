//! A server, honest clients, and what an attack must leave as it was.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::honest::{Honest, Terms};
use crate::server::Server;

/// How long memory and files may take to come back. No timeout of the server is longer than two minutes.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(20);
/// How much memory may stay in use, in bytes: tables that have grown, stacks and arenas of threads.
pub(crate) const MEMORY_LEFT: u64 = 16 * 1024 * 1024;

/// How many lines may be logged, such as that no file is left.
const LOGGED_MAX: usize = 100;

pub(crate) struct Siege {
    pub(crate) server: Server,
    honest: Honest,
    /// Before all attacks.
    resident_bytes: u64,
    files: usize,
}

impl Siege {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::of(Server::start(options), Terms::default())
    }

    pub(crate) fn of(server: Server, terms: Terms) -> Self {
        let honest = Honest::start(server.address, terms);
        honest.await_progress();
        let (resident_bytes, files) = (server.resident_bytes(), server.files());
        println!("before: {} kB resident, {files} files", resident_bytes / 1024);
        Self { server, honest, resident_bytes, files }
    }

    /// Attacks. What `attack` returns is kept until the honest clients have made progress in spite of it.
    pub(crate) fn attack<T>(&self, name: &str, attack: impl FnOnce(&Server) -> T) {
        let (begin, before) = (Instant::now(), self.honest.rounds());
        let remains = attack(&self.server);
        self.honest.await_progress();
        let rounds = self.honest.rounds() - before;
        println!(
            "{name}: {:.1} s, {rounds} honest rounds, {} kB resident, {} files",
            begin.elapsed().as_secs_f32(),
            self.server.resident_bytes() / 1024,
            self.server.files()
        );
        drop(remains);
    }

    /// Waits until memory and files are as before, and checks that the counts add up.
    pub(crate) fn end(self) {
        let (begin, most) = (Instant::now(), self.resident_bytes + MEMORY_LEFT);
        loop {
            let (resident_bytes, files) = (self.server.resident_bytes(), self.server.files());
            // Honest clients may be between two connections.
            if resident_bytes <= most && files <= self.files {
                println!("after: {} kB resident, {files} files", resident_bytes / 1024);
                break;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "not given back: {resident_bytes} bytes of at most {most}, {files} files of {}",
                self.files
            );
            sleep(PAUSE);
        }
        self.honest.await_progress();
        self.honest.end();
        assert_counts(&self.server);
        // A log that clients can fill fills the disk, or blocks the server.
        let logged = self.server.logged();
        assert!(logged < LOGGED_MAX, "{logged} lines were logged");
    }
}

/// Each key and each lease is accounted for.
pub(crate) fn assert_counts(server: &Server) {
    let begin = Instant::now();
    loop {
        let stats = server.connect().stats();
        let count = |name| stats.number(name);
        let ended = count("released") + count("leaseTimeouts") + count("leasesLost");
        let is_right = count("created") == count("keys") + count("expired") + count("deleted")
            && count("leased") == ended + count("blocked")
            && count("keys") == count("free") + count("blocked") + count("cooling")
            // Counted apart from the events: entries in the indexes themselves.
            && count("lifeEntries") == count("keys")
            && count("blockEntries") >= count("blocked") + count("cooling")
            && count("blockEntries") <= count("keys")
            && count("waiting") == 0;
        if is_right {
            return;
        }
        // Requests of clients that have gone may still be at work.
        assert!(begin.elapsed() < PATIENCE, "the counts do not add up: {stats:?}");
        sleep(PAUSE);
    }
}
