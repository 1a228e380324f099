//! Repair: directories with a random history are damaged in random ways, and repaired.
//!
//! What must be kept is known: the frames that are whole up to the first one that is not, and with them the state that the
//! pools had then. With a damaged snapshot, some keys may be missing, and no other may differ.

mod crashes;
mod damage;
mod known;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::{Pool, Size};
use token_orchestrator::journal::{Disk, Repair, RepairError, Repaired, Restorer};
use token_orchestrator::key::State;
use token_orchestrator::pool::Settings;
use token_orchestrator::time::Timestamp;

use self::damage::damage;
use self::known::Known;
use super::disk::SimDisk;
use super::durable::{
    Options, Pools, Step, World, compare, data_key, options, replay, settings, start,
    start_unchecked, worlds,
};
use super::{Tries, same, try_cases};

type Files = BTreeMap<String, Vec<u8>>;

/// What came of the repairs.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    whole: usize,
    exact: usize,
    of_some_blocks: usize,
    late: usize,
    nothing: usize,
    keys: u64,
}

/// Repairs the directory on a disk.
fn repair(disk: &SimDisk, options: &Options) -> Result<Option<Repaired>, RepairError> {
    let repaired = Cell::new(None);
    let describe = |report: &Repaired| {
        repaired.set(Some(report.clone()));
        format!("{report:?}")
    };
    let restorer = || {
        let make =
            |_, settings: Settings| Pool::with_journal(settings.into(), Size::growing(4), ());
        Restorer::new(make, settings(0), Box::new(|_, _| {}))
    };
    let key = data_key(options);
    let repair =
        Repair { disk, data_key: key.as_ref(), moved_to: "damaged-1", describe: &describe };
    let done = repair.run(restorer)?;
    Ok(done.map(|_| repaired.take().unwrap_or_default()))
}

/// A world after random steps, and some that leave keys and leases behind.
fn world(options: &Options, steps: &[Step], rng: &mut StdRng) -> Result<World, String> {
    let mut world = World::new(options)?;
    let take = |world: &mut World, step: &Step| {
        world.take(step).map_err(|what| format!("{step:?}: {what}"))
    };
    steps.iter().try_for_each(|step| take(&mut world, step))?;
    take(&mut world, &Step::Kill)?;
    let snapshot_at = rng.random_range(0..30);
    for n in 0..15 {
        let pool = rng.random_range(0..4);
        let more = [
            Step::Create { pool, own: n % 2 == 0 },
            Step::Create { pool: 0, own: false },
            Step::Lease { pool, ms: 300, held: n % 3 == 0 },
            Step::Release { key: rng.random_range(0..64), cooldown_ms: 0 },
            if n == snapshot_at { Step::Snapshot } else { Step::Commit },
            if n % 4 == 0 { Step::Sync } else { Step::Expire },
            Step::Advance(rng.random_range(0..4)),
        ];
        more.iter().try_for_each(|step| take(&mut world, step))?;
    }
    Ok(world)
}

fn run(
    (options, steps, seed): &(Options, Vec<Step>, u64),
    counts: &Cell<Counts>,
) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(*seed);
    let world = world(options, steps, &mut rng)?;
    let files = world.disk.files();
    let known = Known::new(&files);
    for _ in 0..8 {
        let mut damaged = files.clone();
        let what: Vec<_> =
            (0..rng.random_range(1..=2)).map(|_| damage(&mut damaged, &known, &mut rng)).collect();
        try_damage(&world, &known, &damaged, counts)
            .map_err(|error| format!("{}: {error}", what.join(", ")))?;
    }
    Ok(())
}

fn try_damage(
    world: &World,
    known: &Known,
    damaged: &Files,
    counts: &Cell<Counts>,
) -> Result<(), String> {
    let options = &world.options;
    let now = world.now.plus_ms(5);
    // That the newest files are gone is not always seen. What a snapshot has without them may contradict itself.
    let is_whole = start_unchecked(options, &SimDisk::of(damaged), &world.events, now).is_ok();
    let disk = SimDisk::of(damaged);
    let mut count = counts.get();
    let repaired = match repair(&disk, options) {
        Ok(Some(repaired)) if !is_whole => repaired,
        Ok(None) if is_whole => {
            count.whole += 1;
            counts.set(count);
            return same(&disk.files(), damaged).map_err(|_| "a whole one was changed".to_owned());
        }
        Err(error) => {
            // Another version of the format is told from damage.
            let is_newer = error.to_string().contains("and this program reads format");
            if !is_newer && known.first_whole(damaged).is_some() {
                return Err(format!("not repaired: {error}"));
            }
            count.nothing += 1;
            counts.set(count);
            return same(&disk.files(), damaged).map_err(|_| format!("changed: {error}"));
        }
        Ok(repaired) => return Err(format!("whole: {is_whole}, repaired: {repaired:?}")),
    };
    (|| {
        check_files(&disk, damaged, known)?;
        if let Some(again) = repair(&disk, options).map_err(|error| error.to_string())? {
            return Err(format!("repaired again: {again:?}"));
        }
        let (pools, ..) = start(options, &disk, &world.events, now)?;
        check_state(world, known, damaged, (&pools, now), &repaired, &mut count)?;
        check_fences(world, &pools, now)
    })()
    .map_err(|error| format!("{error}\n{repaired:#?}"))?;
    counts.set(count);
    Ok(())
}

/// The damaged files are where they were moved to.
fn check_files(disk: &SimDisk, damaged: &Files, known: &Known) -> Result<(), String> {
    let files = disk.files();
    for (name, bytes) in damaged.iter().filter(|(name, _)| known.is_of_journal(name)) {
        let moved = files.get(&format!("damaged-1/{name}"));
        if moved != Some(bytes) || files.contains_key(name) {
            return Err(format!("{name} was not moved"));
        }
    }
    same(&files.contains_key("damaged-1/report.txt"), &true)
}

fn check_state(
    world: &World,
    known: &Known,
    damaged: &Files,
    (pools, now): (&Pools, Timestamp),
    repaired: &Repaired,
    count: &mut Counts,
) -> Result<(), String> {
    let last = repaired.frames.last;
    count.keys += repaired.keys;
    for pool in pools.values() {
        pool.keys.check_invariants();
    }
    if repaired.frames.begins_late.is_some() {
        count.late += 1;
        return Ok(());
    }
    let (lower, upper) = known.kept(damaged);
    if !(lower..=upper).contains(&last) {
        return Err(format!("kept up to frame {last}, and not up to {lower} to {upper}"));
    }
    let is_headless = repaired.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_headless);
    if last < world.settled || is_headless && !known.are_frames_whole(damaged) {
        return Ok(());
    }
    let events = world.events.lock().unwrap();
    let length = *world.frames.get(&last).ok_or("it was never written")?;
    let expected = replay(&events[..length], now);
    drop(events);
    let blocks_lost = repaired.snapshot.as_ref().map_or(0, |snapshot| snapshot.blocks_lost);
    if blocks_lost == 0 {
        compare(pools, &expected, now)?;
        count.exact += 1;
    } else {
        count.of_some_blocks += 1;
        known.check_blocks(damaged, blocks_lost)?;
    }
    let mut missing = 0;
    for (number, (.., wanted)) in &expected {
        for id in wanted.ids() {
            let found = pools.get(number).and_then(|pool| pool.keys.get(&id, now).ok());
            let Ok(info) = wanted.get(&id, now) else { continue };
            let Some(found) = found else {
                if known.is_in_whole_block(damaged, id.as_bytes()) {
                    return Err(format!("{id:?} is missing, and its block is whole"));
                }
                missing += 1;
                continue;
            };
            let pool = &pools[number].keys;
            same(&pool.value_of(&id, now), &wanted.value_of(&id, now))?;
            let (state, wanted_state) = (&found.state, &info.state);
            // The settings of a pool may be lost, and with them how long keys rest after a lease.
            if matches!(wanted_state, State::Leased(_)) || blocks_lost == 0 {
                // Also the generation of a lease: its holder renews and releases it.
                same(state, wanted_state)?;
            }
        }
    }
    if let Some(snapshot) = &repaired.snapshot
        && let Some(said) = snapshot.said
        && missing > said - snapshot.found
    {
        return Err(format!("{missing} keys are missing"));
    }
    Ok(())
}

/// No lease that follows has a generation that was given before.
fn check_fences(world: &World, pools: &Pools, now: Timestamp) -> Result<(), String> {
    let largest = world.given.iter().fold(BTreeMap::new(), |mut largest, (id, generation)| {
        let of_id = largest.entry(*id).or_insert(0);
        *of_id = (*of_id).max(*generation);
        largest
    });
    let mut rng = StdRng::seed_from_u64(1);
    // Also for those that are leased now.
    for now in [now, now.plus_ms(450)] {
        for pool in pools.values() {
            while let Ok(leased) = pool.keys.lease(now, 1, &mut rng) {
                let before = largest.get(&leased.id).copied().unwrap_or(0);
                if leased.generation <= before {
                    return Err(format!("{:?} was given before: {before}", leased.lease));
                }
            }
        }
    }
    Ok(())
}

fn cases() -> impl Strategy<Value = (Options, Vec<Step>, u64)> {
    (worlds(), any::<u64>()).prop_map(|((options, steps), seed)| (options, steps, seed))
}

#[test]
fn what_is_whole_is_kept_and_no_fence_repeats() {
    let counts = Cell::new(Counts::default());
    let tries = Tries::new(super::seed(), super::cases() / 30);
    try_cases(tries, &cases(), |(_, steps, _)| steps.len(), |case| run(case, &counts))
        .unwrap_or_else(|report| panic!("{report}"));
    let counts = counts.get();
    println!("{counts:?}");
    // That nothing can be kept is rare: see `what_no_repair_can_do_is_said`.
    let Counts { whole, exact, of_some_blocks, late, nothing: _, keys } = counts;
    let least = usize::try_from(tries.cases).unwrap() / 10;
    assert!(whole > least && exact > 10 * least && of_some_blocks > least, "{counts:?}");
    assert!(late > 0 && keys > exact as u64, "{counts:?}");
}

/// A world with one key, which a snapshot has.
fn with_snapshot() -> World {
    let mut world = World::new(&options(false, false, 1)).unwrap();
    let create = Step::Create { pool: 0, own: false };
    for step in [create, Step::Commit, Step::Snapshot, Step::Commit, Step::Kill] {
        world.take(&step).unwrap();
    }
    world
}

/// A snapshot that has nothing but what clients may have put there to look like heads of blocks, each of which goes on to the
/// end: to read all of them would be 2 TB.
#[test]
fn what_looks_like_blocks_at_each_place_is_passed_in_time() {
    let world = with_snapshot();
    let names = world.disk.list().unwrap();
    let snapshot = names.iter().find(|name| name.starts_with("snapshot-")).unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < 8 << 20 {
        let rest = u32::try_from((8 << 20) - bytes.len() - 16).unwrap();
        bytes.extend([0x0403_0201, rest, 0, 0].into_iter().flat_map(u32::to_le_bytes));
    }
    world.disk.open(snapshot).unwrap().write_at(4096, &bytes).unwrap();
    let repaired = repair(&world.disk, &world.options).unwrap().unwrap();
    assert_eq!(repaired.snapshot.map(|snapshot| snapshot.found).unwrap_or_default(), 0);
}

/// What came after the snapshot is lost, and nobody can say what that was.
#[test]
fn a_snapshot_whose_segments_are_all_missing_is_not_all_that_there_was() {
    let world = with_snapshot();
    for name in world.disk.list().unwrap().iter().filter(|name| name.starts_with("segment-")) {
        world.disk.remove(name).unwrap();
    }
    let repaired = repair(&world.disk, &world.options).unwrap().unwrap();
    assert!(repaired.has_lost_frames() && repaired.keys == 1, "{repaired:?}");
    let what = &repaired.places[0].what;
    assert_eq!(what, "the segments that follow it are missing");
    assert!(repaired.floor > 1 << 26, "{repaired:?}");
}
