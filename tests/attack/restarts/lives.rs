//! The lives of one server: it is killed again and again while clients race.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::filler::Filler;
use super::floors::{self, Floor};
use crate::checker::record::{History, NEVER, Operation};
use crate::folder::Folder;
use crate::history::clients::{Scenario, World};
use crate::history::corrupt::Outage;
use crate::history::run;
use crate::over::SetOnDrop;
use crate::server::{Server, program};

/// An address that no connection has as its own end: those to it come from 127.0.0.1. So nothing else takes the port, not
/// even a client that tries to connect, while the server is down.
const ADDRESS: [u8; 4] = [127, 0, 0, 2];
/// How long a life under load takes at most, and how long to wait for the file with which a life ends.
const LIFE_MS: u64 = 400;
/// How long to wait until a segment is full.
const CHANGE_MS: u64 = 1000;
/// How long the server goes on when that file is there.
const WORK_MS: u64 = 15;

/// What is done with a server.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) durability: &'a str,
    pub(crate) is_sealed: bool,
    /// Whether a pool beside those of the clients is filled: see [`Filler`].
    pub(crate) is_filled: bool,
    /// How often it is ended, all in all.
    pub(crate) ends: usize,
    /// Is called while it is down, with the number of ends so far.
    pub(crate) while_down: &'a dyn Fn(usize, &Folder),
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// By SIGKILL after a while.
    Kill,
    /// By SIGKILL when this file is being written, if that happens.
    KillAt(&'static str),
    /// By SIGKILL when a segment is full, if one is being filled.
    KillAtChange,
    /// By SIGKILL, and the next life by another one before it has begun.
    KillTwice,
    /// By SIGTERM.
    Stop,
}

const SEGMENT: &str = "segment.tmp";
const SNAPSHOT: &str = "snapshot.tmp";
/// A server whose next segment was not finished begins with a short one, which is soon full.
/// Every fourth or fifth start is followed by a snapshot, unless there was one meanwhile: so one of four lives in a row has
/// one, and when that is cut short, the next one has it.
const ENDS: [End; 10] = [
    End::KillAt(SEGMENT),
    End::KillAtChange,
    End::KillTwice,
    End::Kill,
    End::KillAt(SNAPSHOT),
    End::KillAt(SNAPSHOT),
    End::KillAt(SNAPSHOT),
    End::KillAt(SEGMENT),
    End::KillAtChange,
    End::Stop,
];

/// What the ends of lives have met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    /// Kills before the server listened.
    pub(crate) in_starts: usize,
    /// Kills while a segment was being made.
    pub(crate) in_segments: usize,
    /// Kills while a snapshot was being written.
    pub(crate) in_snapshots: usize,
    /// Segments that were begun because another one was full.
    pub(crate) changes: usize,
    /// Snapshots that were finished.
    pub(crate) snapshots: usize,
    /// How often the keys of the filler were counted.
    pub(crate) counts: u64,
}

/// What clients have seen of a server, and when it was down.
pub(crate) struct Recorded {
    pub(crate) history: History,
    pub(crate) outages: Vec<Outage>,
    /// What was taken out of it: generations are not as the server gave them.
    pub(crate) floors: Vec<Floor>,
    pub(crate) met: Met,
}

struct Lives<'a> {
    course: &'a Course<'a>,
    world: &'a World,
    folder: &'a Folder,
    options: Vec<&'a str>,
    server: &'a mut Server,
    rng: StdRng,
    /// When each process was gone.
    gone_ns: Vec<u64>,
    outages: Vec<Outage>,
    floors: Vec<Floor>,
    met: Met,
    /// How long the last start took.
    start: Duration,
    /// The last segment that was written to when the last life ended.
    segment: u64,
}

/// Ends a server and starts it again, as often as the course says, while clients race. Last it is killed once more, and
/// all keys are looked at.
pub(crate) fn record(course: &Course<'_>, seed: u64) -> Recorded {
    let scenario = course.scenario;
    let (folder, key) = (Folder::new("restarts"), Folder::new("restarts-key"));
    let key_file = key.file("key");
    fs::write(&key_file, "5e".repeat(32)).unwrap();
    let mut options = run::options(&scenario);
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    options.extend(["--data-dir".to_owned(), path(folder.path())]);
    options.extend(["--durability", course.durability].map(str::to_owned));
    if course.is_sealed {
        options.extend(["--data-key-file".to_owned(), path(&key_file)]);
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let mut server = Server::start_at(SocketAddr::from((ADDRESS, 0)), &options);
    let mut world = World::new(vec![server.address], scenario, seed);
    world.is_restarted = true;
    world.is_stopping.store(true, Relaxed);
    run::make_pool(&server, &scenario);
    let mut lives = Lives {
        course,
        world: &world,
        folder: &folder,
        options,
        server: &mut server,
        rng: StdRng::seed_from_u64(seed),
        gone_ns: Vec::new(),
        outages: Vec::new(),
        floors: Vec::new(),
        met: Met::default(),
        start: Duration::from_millis(50),
        segment: 0,
    };
    let mut filler = Filler::new(&world);
    let mut operations = run::race(&world, || {
        thread::scope(|scope| {
            let _end = SetOnDrop(&world.is_over);
            if course.is_filled {
                scope.spawn(|| filler.run());
            }
            lives.live_all();
        });
    });
    lives.end(End::Kill);
    let Lives { gone_ns, outages, floors, mut met, .. } = lives;
    end_lost(&mut operations, &gone_ns);
    if course.is_filled {
        filler.look(&mut server.connect()).unwrap();
        met.counts = filler.looks;
    }
    let mut history = run::take_rest(server.connect(), &world, operations);
    floors::take_out(&mut history.operations, &floors);
    Recorded { history, outages, floors, met }
}

/// Nothing of what was sent to a process takes effect once that is gone. Who has connected to it has sent it nothing
/// later, but for what nobody has read.
fn end_lost(operations: &mut [Operation], gone_ns: &[u64]) {
    for operation in operations.iter_mut().filter(|operation| operation.ended_ns == NEVER) {
        let end = gone_ns.partition_point(|gone| *gone < operation.invoked_ns);
        operation.ended_ns = gone_ns[end];
    }
}

impl Lives<'_> {
    fn live_all(&mut self) {
        let first = self.rng.random_range(0..ENDS.len());
        // The last end is that of the clients.
        for number in 0..self.course.ends.saturating_sub(1) {
            // A client that has failed says so when all have ended.
            if !self.world.is_at_work(u64::MAX) {
                break;
            }
            let end = ENDS[(first + number) % ENDS.len()];
            match end {
                End::KillAt(name) => {
                    self.wait_for(LIFE_MS, || self.folder.has(name));
                    self.sleep_up_to(WORK_MS);
                }
                End::KillAtChange if self.course.is_filled => {
                    let segment = self.folder.last_begun_segment();
                    self.wait_for(CHANGE_MS, || self.folder.last_begun_segment() > segment);
                    self.sleep_up_to(WORK_MS);
                }
                _ => self.sleep_up_to(LIFE_MS),
            }
            self.end(end);
        }
        self.sleep_up_to(LIFE_MS);
    }

    fn sleep_up_to(&mut self, ms: u64) {
        thread::sleep(Duration::from_micros(self.rng.random_range(0..ms * 1000)));
    }

    /// Waits for something that may not come.
    fn wait_for(&self, patience_ms: u64, has_come: impl Fn() -> bool) {
        let give_up = Instant::now() + Duration::from_millis(patience_ms);
        while !has_come() && Instant::now() < give_up && self.world.is_at_work(u64::MAX) {
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Ends a life, and begins the next one.
    fn end(&mut self, end: End) {
        let from_ns = self.world.now_ns();
        self.stop_process(end);
        let (segment, _) = self.folder.last_begun_segment();
        // One is that of the start.
        let more = segment.saturating_sub(self.segment + 1);
        self.met.changes += usize::try_from(more).unwrap();
        if end == End::KillTwice {
            self.server.spawn_again(program(), &self.options);
            self.sleep_up_to(u64::try_from(self.start.as_millis()).unwrap() + 1);
            let listens = self.server.said().iter().any(|line| line.contains("listening on"));
            self.met.in_starts += usize::from(!listens);
            self.stop_process(End::Kill);
            // It may have answered.
            self.note_floor(self.gone_ns[self.gone_ns.len() - 2]);
        }
        (self.segment, _) = self.folder.last_begun_segment();
        (self.course.while_down)(self.outages.len() + 1, self.folder);
        let since = Instant::now();
        self.server.start_again(program(), &self.options);
        self.start = since.elapsed();
        let until_ns = self.world.now_ns();
        self.outages.push(Outage { from_ns, until_ns });
        self.note_floor(self.gone_ns[self.gone_ns.len() - 1]);
    }

    /// Notes the floor of a process that was started after the one before was gone: what was sent since then, and
    /// answered, was so by this one. If it has not begun a segment, that of the one before is noted once more.
    fn note_floor(&mut self, from_ns: u64) {
        let (_, generation) = self.folder.last_begun_segment();
        self.floors.push(Floor { from_ns, generation });
    }

    fn stop_process(&mut self, end: End) {
        self.met.snapshots +=
            self.server.said().iter().filter(|line| line.contains("snapshot: ")).count();
        if end == End::Stop {
            self.server.signal("TERM");
            assert!(self.server.wait().success());
            self.met.stops += 1;
        } else {
            self.server.kill();
            self.met.kills += 1;
            self.met.in_segments += usize::from(self.folder.has(SEGMENT));
            self.met.in_snapshots += usize::from(self.folder.has(SNAPSHOT));
        }
        self.gone_ns.push(self.world.now_ns());
    }
}
