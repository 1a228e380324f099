//! What threads meet at: locks and atomics. With `--cfg loom` they are those of the model checker,
//! and the pool can be run in every interleaving: see `loom/`.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};
#[cfg(not(loom))]
pub(super) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(loom)]
pub(super) use super::loom::Mutex;

/// Many of something, but one of it for the model checker, which would look at many interleavings
/// that differ in nothing.
pub(super) const fn unless_loom(many: usize) -> usize {
    if cfg!(loom) { 1 } else { many }
}
