//! Copies of a directory that is used meanwhile: between any two reads there may be commits, snapshots, segments that are
//! used again, and another start. Each copy is what the journal said at one of its frames, not before the copy began.

use std::collections::BTreeMap;
use std::io::Result as DiskResult;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::journal::{CopyError, Disk, DiskFile, copy};

use super::disk::SimDisk;
use super::durable::{Step, World, options};

/// A disk that is read while others work on it. Clones share it.
#[derive(Clone)]
struct Busy {
    disk: SimDisk,
    state: Arc<Mutex<State>>,
}

struct State {
    world: World,
    rng: StdRng,
    /// One in so many reads meets others at work.
    pace: u32,
    /// How many events each frame ends with.
    frames: BTreeMap<u64, usize>,
    failure: Option<String>,
}

impl State {
    fn step(&mut self) -> Step {
        let random = &mut self.rng;
        let (pool, key) = (random.random_range(0..3), random.random_range(0..64));
        match random.random_range(0..60) {
            0..12 => Step::Create { pool, own: random.random() },
            12..24 => Step::Lease { pool, ms: 200, held: random.random() },
            24..28 => Step::Release { key, cooldown_ms: 50 },
            28..30 => Step::Delete(key),
            30..32 => Step::PutPool { name: pool, settings: random.random_range(0..4) },
            32 => Step::DeletePool(pool),
            33..36 => Step::Advance(random.random_range(1..60)),
            36..40 => Step::Sync,
            40..42 => Step::Snapshot,
            42 => Step::Kill,
            _ => Step::Commit,
        }
    }

    fn work(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = self.step();
            if let Err(failure) = self.world.take(&step) {
                self.failure.get_or_insert(failure);
            }
            self.frames.extend(&self.world.frames);
        }
    }
}

impl Busy {
    fn new(seed: u64) -> Result<Self, String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(&options(rng.random(), rng.random(), rng.random()))?;
        let (disk, pace) = (world.disk.clone(), rng.random_range(2..20));
        let frames = world.frames.clone();
        let state = State { world, rng, pace, frames, failure: None };
        Ok(Self { disk, state: Arc::new(Mutex::new(state)) })
    }

    /// Lets others work, perhaps.
    fn meet(&self) {
        let state = &mut *self.state.lock().unwrap();
        if state.rng.random_ratio(1, state.pace) {
            let steps = state.rng.random_range(1..40);
            state.work(steps);
        }
    }
}

impl Disk for Busy {
    fn list(&self) -> DiskResult<Vec<String>> {
        self.meet();
        self.disk.list()
    }

    fn open(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        self.meet();
        let file = self.disk.open(name)?;
        Ok(Box::new(BusyFile { file, disk: self.clone() }))
    }

    fn create(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        panic!("a copy creates {name} in what it copies");
    }

    fn rename(&self, from: &str, _: &str) -> DiskResult<()> {
        panic!("a copy renames {from} in what it copies");
    }

    fn remove(&self, name: &str) -> DiskResult<()> {
        panic!("a copy removes {name} from what it copies");
    }

    fn sync_names(&self) -> DiskResult<()> {
        panic!("a copy flushes what it copies");
    }

    fn subdirectory(&self, name: &str) -> DiskResult<Box<dyn Disk>> {
        panic!("a copy makes {name} in what it copies");
    }

    fn remove_subdirectory(&self, name: &str) -> DiskResult<()> {
        panic!("a copy removes {name} from what it copies");
    }
}

struct BusyFile {
    file: Box<dyn DiskFile>,
    disk: Busy,
}

impl DiskFile for BusyFile {
    fn write_at(&self, _: u64, _: &[u8]) -> DiskResult<()> {
        panic!("a copy writes to what it copies");
    }

    /// What is written meanwhile is read in part: so a frame may be half of what it is going to be.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> DiskResult<usize> {
        self.disk.meet();
        let half = self.disk.state.lock().unwrap().rng.random_range(0..=bytes.len());
        let read = self.file.read_at(offset, &mut bytes[..half])?;
        if read < half {
            return Ok(read);
        }
        self.disk.meet();
        Ok(half + self.file.read_at(offset + half as u64, &mut bytes[half..])?)
    }

    fn reserve(&self, _: u64) -> DiskResult<()> {
        panic!("a copy writes to what it copies");
    }

    fn length(&self) -> DiskResult<u64> {
        self.disk.meet();
        self.file.length()
    }

    fn sync(&self) -> DiskResult<()> {
        panic!("a copy flushes what it copies");
    }

    fn forget_cache(&self) {
        panic!("a copy slows down what it copies");
    }
}

/// Makes one copy, and checks it. With `breaks`, the disk of the copy loses power meanwhile.
fn try_once(busy: &Busy, seed: u64, breaks: bool) -> Result<bool, String> {
    let before = {
        let state = &mut *busy.state.lock().unwrap();
        let steps = state.rng.random_range(0..200);
        state.work(steps);
        state.world.committed()
    };
    let to = SimDisk::new(seed);
    if breaks {
        to.fail_after(StdRng::seed_from_u64(seed).random_range(0..30));
    }
    let outcome = copy(busy, &to, || {});
    let state = &mut *busy.state.lock().unwrap();
    if let Some(failure) = state.failure.take() {
        return Err(failure);
    }
    let is_whole = outcome.as_ref().ok().map(|copied| copied.map(|copied| copied.last_frame));
    match outcome {
        Err(CopyError::Busy) => return Ok(false),
        Err(CopyError::To(_)) if breaks => {}
        Ok(Some(_)) => {}
        outcome => return Err(format!("no copy: {outcome:?}")),
    }
    // What was written is on disk.
    to.lose_power();
    if is_whole.is_none() && to.list().unwrap().is_empty() {
        return Ok(true);
    }
    match state.world.check_copy(&to, &state.frames) {
        // Only the last flush was missing.
        Ok(last) if last >= before && is_whole.is_none_or(|whole| whole == Some(last)) => Ok(true),
        Ok(last) => {
            Err(format!("frame {before} was committed, and {last} is the last of the copy"))
        }
        Err(report) if is_whole.is_none() && report.contains("cannot be opened") => Ok(true),
        Err(report) => Err(report),
    }
}

/// Makes so many copies. Returns how many worked, and how often snapshots were written meanwhile.
pub(crate) fn attack(seed: u64, tries: usize) -> Result<[usize; 2], String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut made, mut snapshots) = (0, 0);
    for world in 0..tries.div_ceil(10) {
        let busy = Busy::new(rng.random())?;
        for n in 0..10 {
            let is_made = try_once(&busy, rng.random(), n % 3 == 2)
                .map_err(|report| format!("SIM_SEED={seed}, world {world}, copy {n}: {report}"))?;
            made += usize::from(is_made);
        }
        snapshots += busy.state.lock().unwrap().world.snapshots.get();
    }
    Ok([made, snapshots])
}

#[test]
fn copies_of_a_directory_in_use_are_whole() {
    let tries = super::cases() as usize / 60;
    let outcome = attack(super::seed(), tries);
    let [made, snapshots] = outcome.unwrap_or_else(|report| panic!("{report}"));
    println!("{made} of {tries} copies were made, beside {snapshots} snapshots");
    assert!(made > tries * 3 / 4, "only {made} copies of {tries}");
    assert!(snapshots > tries, "only {snapshots} snapshots");
}
