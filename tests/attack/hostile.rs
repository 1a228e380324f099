//! Hostile clients beside honest ones: each honest client is answered as always, and what the hostile
//! ones took is given back.

mod budget;
mod crowds;
mod garbage;
mod honest;
mod http2;
mod siege;
mod sizes;
mod smuggling;
mod stalls;
mod vanishing;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What is random: by `ATTACK_SEED`, or the same each time.
fn random() -> SmallRng {
    let seed = std::env::var("ATTACK_SEED").map_or(2026, |seed| seed.parse().expect("a number"));
    println!("ATTACK_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

/// The statuses of answers that came one behind the other.
fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

/// So many random bytes.
fn bytes(random: &mut SmallRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes[..]);
    bytes
}
