//! Numbers that take no more bytes than they need.

use crate::time::Timestamp;

/// An unsigned number in `N` bytes, without alignment.
#[derive(Clone, Copy)]
pub(super) struct Packed<const N: usize>([u8; N]);

impl<const N: usize> Packed<N> {
    pub(super) const MAX: u64 = (1 << (8 * N)) - 1;

    pub(super) fn new(value: u64) -> Self {
        debug_assert!(value <= Self::MAX, "{value} does not fit {N} bytes");
        let mut bytes = [0; N];
        bytes.copy_from_slice(&value.to_le_bytes()[..N]);
        Self(bytes)
    }

    pub(super) fn get(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn time(self) -> Timestamp {
        Timestamp::from_kept_ms(self.get())
    }
}
