//! Looking for whole frames behind what is none, in the bytes of one segment.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::ops::Range;

use super::checksums::Prefixes;
use super::frame::FrameHead;

/// The bytes of a segment in which frames are looked for.
pub(super) struct Search<'b> {
    bytes: &'b [u8],
    /// The checksum with which those of frames begin.
    seed: u32,
    /// They are made when a frame is long.
    prefixes: OnceCell<Prefixes>,
}

impl<'b> Search<'b> {
    pub(super) fn new(bytes: &'b [u8], seed: u32) -> Self {
        Self { bytes, seed, prefixes: OnceCell::new() }
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
        let append = |sum, part| crc32c::crc32c_append(sum, &self.bytes[part]);
        if part.len() < 2 * Prefixes::BLOCK {
            return append(self.seed, part);
        }
        let prefixes = self.prefixes.get_or_init(|| {
            let mut prefixes = Prefixes::new();
            prefixes.extend(self.bytes);
            prefixes
        });
        let append = |sum, part| Ok::<_, Infallible>(append(sum, part));
        let Ok(sum) = prefixes.of(part, self.seed, append);
        sum
    }
}

/// The sequence of the frame at `offset`, if there is one, whether or not it is whole.
pub(super) fn sequence_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset + 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

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
