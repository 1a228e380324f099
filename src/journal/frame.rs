//! Frames: what one commit writes.
//!
//! ```text
//!   0 checksum, CRC-32C of all that follows, begun with the segment's own
//!   4 length of the payload
//!   8 sequence: one more than that of the frame before
//!  16 durable: up to which frame all was on disk when this one was written
//!  24 at: when it was written
//!  32 mark: until when answers may leave that rest on this frame
//!  40 ceiling: below it, generations may have been given that are not durable yet
//!  48 payload: records, sealed if the directory has a key
//! ```
//!
//! A frame begins at a multiple of 8 bytes. All numbers are in little endian.

use std::ops::Range;

use super::bytes::{Reader, Writer};
use crate::engine::fail_point::FailPoint;
use crate::time::Timestamp;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// How many bytes the payload has.
    pub(crate) length: u32,
    /// Counts frames from 1 on.
    pub(crate) sequence: u64,
    /// Up to which frame all was on disk when this one was written. So if a frame up to that one cannot be read, the disk
    /// has lost it; a later one may have been on its way.
    pub(crate) durable: u64,
    /// When it was written.
    pub(crate) at: Timestamp,
    /// Until when answers may leave that rest on it. A clock that begins there revives nothing that was shown as over.
    pub(crate) mark: Timestamp,
    /// Below it, generations may have been given by changes that are not on disk; 0 if all are.
    pub(crate) ceiling: u64,
}

impl FrameHead {
    pub(crate) const BYTES: usize = 48;
    /// Where the part begins that the checksum covers.
    const COVERED: usize = 4;

    /// How much room a frame with a payload of `length` bytes takes.
    pub(crate) fn room(length: usize) -> usize {
        (Self::BYTES + length).next_multiple_of(8)
    }

    /// Writes the head before the payload, for which `frame` has room at its beginning, and fills up the frame. `seed` is
    /// the checksum of the segment. O(length).
    pub(crate) fn finish(&self, frame: &mut Vec<u8>, seed: u32) {
        let mut head = Vec::with_capacity(Self::BYTES);
        let mut out = Writer(&mut head);
        out.number::<4>(0);
        out.number::<4>(self.length.into());
        out.number::<8>(self.sequence);
        out.number::<8>(self.durable);
        out.number::<8>(self.at.as_ms());
        out.number::<8>(self.mark.as_ms());
        out.number::<8>(self.ceiling);
        frame[..Self::BYTES].copy_from_slice(&head);
        let checksum = crc32c::crc32c_append(seed, &frame[Self::COVERED..]);
        frame[..Self::COVERED].copy_from_slice(&checksum.to_le_bytes());
        frame.resize(frame.len().next_multiple_of(8), 0);
    }

    /// The head and the payload of the frame that `bytes` begin with, if its checksum says that they are whole. O(length).
    pub(crate) fn read(bytes: &[u8], seed: u32) -> Option<(Self, &[u8])> {
        Self::read_by(bytes, |covered| crc32c::crc32c_append(seed, &bytes[covered]))
    }

    /// As [`FrameHead::read`], where `checksum_of` tells that of a part of `bytes`.
    pub(super) fn read_by(
        bytes: &[u8],
        checksum_of: impl FnOnce(Range<usize>) -> u32,
    ) -> Option<(Self, &[u8])> {
        let mut head = Reader(bytes.get(..Self::BYTES)?);
        let checksum = head.u32().ok()?;
        let length = head.u32().ok()?;
        let end = Self::BYTES.checked_add(length as usize)?;
        let frame = bytes.get(..end)?;
        let is_whole = checksum_of(Self::COVERED..end) == checksum;
        if !is_whole && !FailPoint::TornEndAccepted.is_on() {
            return None;
        }
        let mut number = || head.number::<8>().ok();
        let (sequence, durable) = (number()?, number()?);
        let mut time = || number().map(Timestamp::from_ms);
        let (at, mark) = (time()?, time()?);
        let ceiling = head.number::<8>().ok()?;
        Some((Self { length, sequence, durable, at, mark, ceiling }, &frame[Self::BYTES..]))
    }
}
