//! What threads meet at: locks and atomics. With the feature `loom` they are those of the model
//! checker, and the pool can be run in every interleaving: see `exhaustive.rs`.

#[cfg(feature = "loom")]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};
#[cfg(not(feature = "loom"))]
pub(super) use parking_lot::Mutex;
#[cfg(not(feature = "loom"))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};

/// Many of something, but one of it for the model checker, which would look at many interleavings
/// that differ in nothing.
pub(super) const fn unless_checked(many: usize) -> usize {
    if cfg!(feature = "loom") { 1 } else { many }
}

#[cfg(feature = "loom")]
pub(super) use self::checked::Mutex;

#[cfg(feature = "loom")]
mod checked {
    /// With the face of `parking_lot`'s.
    #[derive(Default)]
    pub(in crate::engine) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::engine) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(in crate::engine) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the model")
        }

        pub(in crate::engine) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}
