//! Hostile clients, while honest ones go on: each of these is answered as always, and what the
//! hostile ones took is given back.

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

/// A small generator of random numbers (xorshift), so that a failure can be had again.
pub(crate) struct Random(u64);

impl Random {
    /// From `ATTACK_SEED`, or the same each time.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("ATTACK_SEED").map_or(2026, |seed| seed.parse().unwrap());
        println!("ATTACK_SEED={seed}");
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 32) % end as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}
