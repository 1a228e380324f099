//! Mutations of valid input.

use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

fn pick<'a>(random: &mut SmallRng, from: &[&'a str]) -> &'a str {
    from.choose(random).expect("something to pick from")
}

/// An entry of the corpus, mutated a few times: bytes are flipped, cut out, repeated and moved, further
/// entries are spliced in, and words of the dictionary are inserted or written over what is there.
pub(crate) fn mutate(random: &mut SmallRng, corpus: &[&str], words: &[&str]) -> Vec<u8> {
    let mut input = pick(random, corpus).as_bytes().to_vec();
    // Some inputs stay as they are.
    for _ in 0..random.random_range(0..5) {
        let at = random.random_range(0..input.len() + 1);
        let end = at + random.random_range(0..(input.len() - at).min(20) + 1);
        match random.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                let to = random.random_range(0..input.len() + 1);
                input.splice(to..to, part);
            }
            4 => {
                let other = pick(random, corpus).as_bytes();
                let from = random.random_range(0..other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => input.truncate(at),
            6 => drop(input.splice(at..end, pick(random, words).bytes())),
            _ => drop(input.splice(at..at, pick(random, words).bytes())),
        }
    }
    input
}

/// The same as text: bytes that are no text are replaced.
pub(crate) fn mutate_text(random: &mut SmallRng, corpus: &[&str], words: &[&str]) -> String {
    String::from_utf8_lossy(&mutate(random, corpus, words)).into_owned()
}
