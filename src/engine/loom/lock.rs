//! The model checker's lock.

/// loom's lock with the interface of `parking_lot`'s.
#[derive(Default)]
pub(in crate::engine) struct Mutex<T>(::loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(in crate::engine) fn new(value: T) -> Self {
        Self(::loom::sync::Mutex::new(value))
    }

    pub(in crate::engine) fn lock(&self) -> ::loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the model")
    }

    pub(in crate::engine) fn try_lock(&self) -> Option<::loom::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
