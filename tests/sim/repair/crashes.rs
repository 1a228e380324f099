//! Repairs that are interrupted, or cannot be.

use rand::SeedableRng;
use rand::rngs::StdRng;
use token_orchestrator::journal::RepairError;

use super::known::Known;
use super::{Files, repair, world};
use crate::sim::disk::SimDisk;
use crate::sim::durable::{Options, Step, World, compare, options, replay, start};
use crate::sim::same;

/// A world with a snapshot, and its files with a frame damaged in the middle; and the last frame before that.
fn damaged(options: &Options) -> (World, Files, u64) {
    let mut rng = StdRng::seed_from_u64(8);
    let mut steps = Vec::new();
    for n in 0..20 {
        steps.extend([
            Step::Create { pool: 0, own: n % 2 == 0 },
            Step::PutPool { name: n % 3, settings: 1 },
            if n == 15 { Step::Snapshot } else { Step::Commit },
        ]);
    }
    let world = world(options, &steps, &mut rng).unwrap();
    let mut files = world.disk.files();
    let known = Known::new(&files);
    let (last, part) = known.frames.iter().nth(known.frames.len() - 5).unwrap();
    files.get_mut(&part.file).unwrap()[part.from + 50] ^= 1;
    (world, files, last - 1)
}

#[test]
fn a_crash_in_a_repair_leaves_the_damaged_directory_or_the_repaired_one() {
    for options in [options(false, false, 1), options(false, true, 2)] {
        let (world, files, last) = damaged(&options);
        assert!(last > world.settled);
        let now = world.now.plus_ms(5);
        let length = world.frames[&last];
        let expected = replay(&world.events.lock().unwrap()[..length], now);
        let is_repaired = |disk: &SimDisk| {
            let disk = SimDisk::of(&disk.files());
            let (pools, ..) = start(&options, &disk, &world.events, now)?;
            compare(&pools, &expected, now).map_err(|what| format!("it is another one: {what}"))
        };
        let (mut refused, mut unfinished, mut again) = (0, 0, 0);
        for operations in 0.. {
            let disk = SimDisk::of(&files);
            disk.fail_after(operations);
            let outcome = repair(&disk, &options);
            if !disk.is_off() {
                assert!(matches!(outcome, Ok(Some(_))), "{outcome:?}");
                break;
            }
            disk.lose_power();
            match is_repaired(&disk) {
                Ok(()) => {}
                Err(what) if what.contains("a repair of the directory was interrupted") => {
                    unfinished += 1;
                }
                Err(what) => {
                    assert!(what.contains("is damaged at byte"), "after {operations}: {what}");
                    // Nothing that was there is gone.
                    for (name, bytes) in &files {
                        assert!(disk.files()[name] == *bytes, "after {operations}: {name}");
                    }
                    refused += 1;
                }
            }
            // A second crash on the way.
            disk.fail_after(operations % 7);
            again += usize::from(repair(&disk, &options).is_err());
            disk.lose_power();
            repair(&disk, &options).unwrap_or_else(|error| panic!("after {operations}: {error}"));
            is_repaired(&disk).unwrap_or_else(|what| panic!("after {operations}: {what}"));
            for (name, bytes) in &files {
                let after = disk.files();
                let moved = after.iter().find(|(moved, _)| moved.ends_with(&format!("/{name}")));
                let is_same = moved.is_some_and(|(_, moved)| moved == bytes);
                assert!(is_same, "after {operations}: {name} is not among {:?}", after.keys());
            }
        }
        assert!(refused > 5 && unfinished > 5 && again > 5, "{refused}, {unfinished}, {again}");
    }
}

#[test]
fn a_disk_without_room_is_left_as_it_is() {
    let options = options(false, false, 1);
    let (world, files, _) = damaged(&options);
    let disk = SimDisk::of(&files);
    disk.set_room(disk.used() + 4096);
    let error = repair(&disk, &options).unwrap_err();
    assert!(matches!(error, RepairError::NoRoom(_)), "{error}");
    assert!(error.to_string().contains("the disk has no room for the repaired files"), "{error}");
    assert!(disk.files() == files);
    disk.set_room(usize::MAX);
    repair(&disk, &options).unwrap();
    start(&options, &disk, &world.events, world.now).unwrap();
}

/// As what a server says that does not start.
#[test]
fn what_no_repair_can_do_is_said() {
    let (plain, sealed) = (options(false, false, 1), options(false, true, 1));
    let (_, of_plain, _) = damaged(&plain);
    let (_, of_sealed, _) = damaged(&sealed);
    let newer = {
        let mut files = of_plain.clone();
        for bytes in files.values_mut() {
            bytes[8] = 2;
            // The checksum of a later format is another one.
            bytes[12] ^= 1;
        }
        files
    };
    let nothing = of_plain.keys().map(|name| (name.clone(), vec![1; 9000])).collect();
    let none = [("lock".to_owned(), Vec::new())].into();
    for (options, files, said) in [
        (&plain, &of_sealed, "encrypted: give its key"),
        (&sealed, &of_plain, "not encrypted: leave out"),
        (&plain, &newer, "has format 2, and this program reads format 1"),
        (&plain, &nothing, "no record in it can be read, so nothing can be kept"),
        (&plain, &none, "has no data of a server"),
    ] {
        let disk = SimDisk::of(files);
        let error = repair(&disk, options).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        same(&disk.files(), files).unwrap();
    }
}
