//! Looking for whole frames behind what is none, in the bytes of one segment.
//!
//! Payloads have values that clients have chosen. So at each place there may be what looks like the head of a frame of any length,
//! and a checksum of all its bytes would make such a search quadratic. Checksums of prefixes, and how CRCs of two parts make one
//! of both, save the middle.

use std::array;
use std::cell::OnceCell;
use std::ops::Range;

use super::frame::FrameHead;

/// Checksums of prefixes are kept at multiples of this.
const BLOCK: usize = 1024;

/// The bytes of a segment in which frames are looked for.
pub(super) struct Search<'b> {
    bytes: &'b [u8],
    /// The checksum with which those of frames begin.
    seed: u32,
    /// They are made when a frame is long.
    blocks: OnceCell<Blocks>,
}

/// Checksums of a file, block by block.
struct Blocks {
    /// Of nothing, of the first block, of the first two, and so on.
    prefixes: Vec<u32>,
    /// What becomes of each bit of a checksum by so many blocks of zeros behind it: by one, by two, by four, and so on.
    moves: Vec<[u32; 32]>,
}

impl<'b> Search<'b> {
    pub(super) fn new(bytes: &'b [u8], seed: u32) -> Self {
        Self { bytes, seed, blocks: OnceCell::new() }
    }

    /// The first whole frame from `offset` on, a multiple of 8, whose sequence is at least `least`, where it begins, and its
    /// payload. O(bytes).
    pub(super) fn next_frame(
        &self,
        offset: usize,
        least: u64,
    ) -> Option<(usize, FrameHead, &'b [u8])> {
        let latest = self.bytes.len().checked_sub(FrameHead::BYTES)?;
        (offset..=latest).step_by(8).find_map(|at| {
            // A segment has no more frames than this: so almost nothing else needs a checksum.
            let later = sequence_at(self.bytes, at)?.checked_sub(least)?;
            if later >= 1 << 32 {
                return None;
            }
            let checksum = |covered: Range<usize>| self.of(at + covered.start..at + covered.end);
            let (frame, payload) = FrameHead::read_by(&self.bytes[at..], checksum)?;
            Some((at, frame, payload))
        })
    }

    /// How many whole frames there are from `offset` on behind the frame `expected`, and whether one says that this was on
    /// disk. O(bytes).
    pub(super) fn look_behind(&self, mut offset: usize, expected: u64) -> (u64, bool) {
        let mut cut = 0;
        while let Some((at, frame, _)) = self.next_frame(offset, expected + 1) {
            if frame.durable >= expected {
                return (cut, true);
            }
            cut += 1;
            offset = at + FrameHead::room(frame.length as usize);
        }
        (cut, false)
    }

    /// The checksum of a part. O(1), but for the first long one.
    fn of(&self, part: Range<usize>) -> u32 {
        let blocks = part.start.div_ceil(BLOCK)..part.end / BLOCK;
        if blocks.end < blocks.start + 2 {
            return crc32c::crc32c_append(self.seed, &self.bytes[part]);
        }
        let (begin, end) = (blocks.start * BLOCK, blocks.end * BLOCK);
        let before = crc32c::crc32c_append(self.seed, &self.bytes[part.start..begin]);
        let until = self.blocks.get_or_init(|| Blocks::new(self.bytes)).append(before, blocks);
        crc32c::crc32c_append(until, &self.bytes[end..part.end])
    }
}

impl Blocks {
    fn new(bytes: &[u8]) -> Self {
        let mut prefixes = vec![0];
        for block in bytes.chunks_exact(BLOCK) {
            prefixes.push(crc32c::crc32c_append(prefixes[prefixes.len() - 1], block));
        }
        let by = |length| array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, length));
        let doubled = (0..=prefixes.len().ilog2()).map(|exponent| BLOCK << exponent);
        let moves = doubled.map(by).collect();
        Self { prefixes, moves }
    }

    /// The checksum of what has the one `before`, and of these blocks behind it. A CRC of two parts is that of the first one,
    /// moved by the length of the second one, plus that of the second one: so what was before blocks can be exchanged.
    fn append(&self, before: u32, blocks: Range<usize>) -> u32 {
        let mut moved = before ^ self.prefixes[blocks.start];
        for (exponent, bits) in self.moves.iter().enumerate() {
            if blocks.len() >> exponent & 1 == 1 {
                let each = bits.iter().enumerate().filter(|(bit, _)| moved >> bit & 1 == 1);
                moved = each.fold(0, |sum, (_, by)| sum ^ by);
            }
        }
        moved ^ self.prefixes[blocks.end]
    }
}

/// The sequence of the frame at `offset`, if there is one, whether or not it is whole.
pub(super) fn sequence_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset + 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn checksums_of_parts_are_those_of_their_bytes() {
        let mut rng = StdRng::seed_from_u64(1);
        let bytes: Vec<u8> = (0..10 * BLOCK + 123).map(|_| rng.random()).collect();
        let search = Search::new(&bytes, 0x1234_5678);
        let edges =
            [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, 10 * BLOCK, bytes.len()];
        let ranges = edges.iter().flat_map(|from| edges.iter().map(move |to| *from..*to));
        let random = (0..1000).map(|_| {
            let ends = [0, 1].map(|_| rng.random_range(0..=bytes.len()));
            ends[0]..ends[1]
        });
        for part in ranges.chain(random).filter(|part| part.start <= part.end) {
            let expected = crc32c::crc32c_append(search.seed, &bytes[part.clone()]);
            assert_eq!(search.of(part.clone()), expected, "{part:?}");
        }
    }

    /// As many bytes as a segment has, each of whose heads says that its frame goes on to the end: to read all of them would be
    /// 130 TB.
    #[test]
    fn what_looks_like_frames_at_each_place_is_passed_in_time() {
        let length = 64 << 20;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let rest = u32::try_from(length - bytes.len()).unwrap().saturating_sub(64);
            bytes.extend_from_slice(&[1, 2, 3, 4]);
            bytes.extend_from_slice(&rest.to_le_bytes());
            bytes.extend_from_slice(&7_u64.to_le_bytes());
        }
        assert_eq!(Search::new(&bytes, 5).look_behind(0, 6), (0, false));
    }
}
