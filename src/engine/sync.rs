//! The engine's locks and atomics. With `--cfg loom` they are those of the model checker, which runs the pool
//! in every interleaving: see `loom/`.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};
#[cfg(not(loom))]
pub(super) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(super) use std::sync::OnceLock;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(loom)]
pub(super) use super::loom::{Mutex, OnceLock};

/// `many` of something, but one for the model checker, which would otherwise try many interleavings that do
/// not differ.
pub(super) const fn unless_loom(many: usize) -> usize {
    if cfg!(loom) { 1 } else { many }
}
