//! Damage: a bit that has changed, or a file that is cut short. It is found, or changes nothing; nothing is made up.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::journal::{Disk, OpenError};
use token_orchestrator::time::Timestamp;

use super::durable::{Step, World, options, start};

/// Tries to damage each of a few directories in so many ways. Returns how often it was found, and how often nothing had
/// changed.
pub(crate) fn attack(seed: u64, tries: usize) -> Result<[usize; 2], String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut found, mut harmless) = (0, 0);
    for sealed in [false, true] {
        let mut world = World::new(&options(false, sealed, rng.random()))?;
        for n in 0..60 {
            let wants_snapshot = n == 20;
            for step in [
                Step::Create { pool: 0, own: n % 2 == 0 },
                Step::Lease { pool: 0, ms: 300, held: n % 3 == 0 },
                Step::PutPool { name: n % 3, settings: n % 4 },
                Step::Advance(3),
                if wants_snapshot { Step::Snapshot } else { Step::Commit },
            ] {
                world.take(&step)?;
            }
        }
        let (last, names) = (world.committed(), world.names());
        for _ in 0..tries {
            let name = &names[rng.random_range(0..names.len())];
            let mut bytes = world.disk.bytes(name);
            let at = rng.random_range(0..bytes.len());
            let what = if rng.random_ratio(1, 10) {
                bytes.truncate(at);
                format!("{name} cut short at {at}")
            } else {
                let bit = rng.random_range(0..8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} of {name}")
            };
            let disk = world.disk.with(name, &bytes);
            match start(&world.options, &disk, &world.events, Timestamp::from_ms(1_000_000)) {
                Err(report) if report.contains("cannot be opened") => found += 1,
                Err(report) => return Err(format!("{what}: {report}")),
                // The last frame may be taken for one that nobody was told of.
                Ok((.., sequence)) if sequence.is_some_and(|last_found| last_found + 1 >= last) => {
                    harmless += 1;
                }
                Ok((.., sequence)) => {
                    return Err(format!(
                        "{what}: frame {sequence:?} is the last one, and not {last}"
                    ));
                }
            }
        }
    }
    Ok([found, harmless])
}

#[test]
fn damage_is_found_and_not_guessed_at() {
    let [found, harmless] = attack(super::seed(), 1500).unwrap_or_else(|report| panic!("{report}"));
    println!("found {found} times; nothing had changed {harmless} times");
    assert!(found > 500 && harmless > 100, "{found}, {harmless}");
}

/// The segment that was written last is gone, and the one that was made after it is there.
#[test]
fn a_segment_that_is_missing_is_noticed() {
    let options = options(false, false, 1);
    let mut world = World::new(&options).unwrap();
    world.take(&Step::Create { pool: 0, own: false }).unwrap();
    world.take(&Step::Commit).unwrap();
    assert_eq!(world.names(), ["segment-000000000001", "segment-000000000002"]);
    world.disk.remove("segment-000000000001").unwrap();
    let refusal = start(&options, &world.disk, &world.events, Timestamp::from_ms(2000)).err();
    let refusal = refusal.expect("it is refused");
    assert!(
        refusal.contains("segment-000000000001, which was made before it, is missing"),
        "{refusal}"
    );
}

/// Each error says what to do.
#[test]
fn a_directory_that_is_another_ones_is_refused() {
    let (plain, sealed) = (options(false, false, 1), options(false, true, 1));
    let [of_plain, of_sealed] = [&plain, &sealed].map(|options| World::new(options).unwrap());
    let open = |options, world: &World| {
        let now = Timestamp::from_ms(2000);
        start(options, &world.disk, &world.events, now).err().expect("it is refused")
    };
    assert!(
        open(&plain, &of_sealed).contains("encrypted: give its key"),
        "{}",
        open(&plain, &of_sealed)
    );
    assert!(open(&sealed, &of_plain).contains("not encrypted: leave out"));
    let newer = OpenError::NewerFormat { file: "segment-1".to_owned(), version: 7, known: 1 };
    assert!(newer.to_string().contains("has format 7, and this program reads format 1"));
    // A later format, which has another checksum, is told from a changed byte.
    let name = &of_plain.names()[0];
    let mut bytes = of_plain.disk.bytes(name);
    bytes[8] = 2;
    let refusal = |bytes: &[u8]| {
        let disk = of_plain.disk.with(name, bytes);
        let now = Timestamp::from_ms(2000);
        start(&plain, &disk, &of_plain.events, now).err().expect("it is refused")
    };
    let of_changed = refusal(&bytes);
    assert!(of_changed.contains("its head does not match its checksum"), "{of_changed}");
    bytes[12] ^= 1;
    let of_later = refusal(&bytes);
    assert!(of_later.contains("run the version that wrote it"), "{of_later}");
}
