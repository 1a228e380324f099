//! Checksums of any part of a file, each in the same time.
//!
//! Files have values that clients have chosen. So at each place there may be what looks like a head and names any length: a
//! search for what is whole behind damage would be quadratic if it read all that such heads speak of.

use std::array;
use std::ops::Range;

/// Checksums of the first blocks of a file: of none, of the first one, of the first two, and so on.
pub(super) struct Prefixes {
    of_blocks: Vec<u32>,
    /// What becomes of each bit of a checksum by so many blocks of zeros behind it: by one, by two, by four, and so on.
    moves: [[u32; 32]; Self::MOVES],
}

impl Prefixes {
    /// The length of a block in bytes.
    pub(super) const BLOCK: usize = 1024;
    /// More than any file has: 2^42 bytes.
    const MOVES: usize = 32;

    pub(super) fn new() -> Self {
        let by = |length| array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, length));
        Self { of_blocks: vec![0], moves: array::from_fn(|exponent| by(Self::BLOCK << exponent)) }
    }

    /// Adds the blocks that `bytes` have, without what is left. O(bytes).
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        for block in bytes.chunks_exact(Self::BLOCK) {
            let before = self.of_blocks[self.of_blocks.len() - 1];
            self.of_blocks.push(crc32c::crc32c_append(before, block));
        }
    }

    /// The checksum of a part, begun with `seed`, of which `append` adds less than two blocks: those at its ends. O(1).
    ///
    /// # Errors
    ///
    /// As `append` says.
    pub(super) fn of<E>(
        &self,
        part: Range<usize>,
        seed: u32,
        mut append: impl FnMut(u32, Range<usize>) -> Result<u32, E>,
    ) -> Result<u32, E> {
        let blocks = part.start.div_ceil(Self::BLOCK)..part.end / Self::BLOCK;
        if blocks.end <= blocks.start {
            return append(seed, part);
        }
        let before = append(seed, part.start..blocks.start * Self::BLOCK)?;
        let until = self.append_blocks(before, blocks.clone());
        append(until, blocks.end * Self::BLOCK..part.end)
    }

    /// The checksum of what has the one `before`, and of these blocks behind it. A CRC of two parts is that of the first one,
    /// moved by the length of the second one, plus that of the second one: so what was before blocks can be exchanged.
    fn append_blocks(&self, before: u32, blocks: Range<usize>) -> u32 {
        let mut moved = before ^ self.of_blocks[blocks.start];
        for (exponent, bits) in self.moves.iter().enumerate() {
            if blocks.len() >> exponent & 1 == 1 {
                let each = bits.iter().enumerate().filter(|(bit, _)| moved >> bit & 1 == 1);
                moved = each.fold(0, |sum, (_, by)| sum ^ by);
            }
        }
        moved ^ self.of_blocks[blocks.end]
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn checksums_of_parts_are_those_of_their_bytes() {
        const BLOCK: usize = Prefixes::BLOCK;
        const SEED: u32 = 0x1234_5678;
        let mut rng = StdRng::seed_from_u64(1);
        let bytes: Vec<u8> = (0..10 * BLOCK + 123).map(|_| rng.random()).collect();
        let mut prefixes = Prefixes::new();
        prefixes.extend(&bytes);
        let edges =
            [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, 10 * BLOCK, bytes.len()];
        let ranges = edges.iter().flat_map(|from| edges.iter().map(move |to| *from..*to));
        let random = (0..1000).map(|_| {
            let ends = [0, 1].map(|_| rng.random_range(0..=bytes.len()));
            ends[0]..ends[1]
        });
        for part in ranges.chain(random).filter(|part| part.start <= part.end) {
            let append = |sum, part: Range<usize>| {
                assert!(part.len() < 2 * BLOCK, "{part:?}");
                Ok::<_, Infallible>(crc32c::crc32c_append(sum, &bytes[part]))
            };
            let Ok(found) = prefixes.of(part.clone(), SEED, append);
            assert_eq!(found, crc32c::crc32c_append(SEED, &bytes[part.clone()]), "{part:?}");
        }
    }
}
