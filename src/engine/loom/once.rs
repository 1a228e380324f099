//! The model checker's cell that is written once.

use ::loom::sync::Mutex;
use ::loom::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

/// The standard library's, which the model checker does not see, and what that promises about orderings.
pub(in crate::engine) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
    setting: Mutex<()>,
}

impl<T> OnceLock<T> {
    pub(in crate::engine) fn new() -> Self {
        let (value, is_set) = (std::sync::OnceLock::new(), AtomicBool::new(false));
        Self { value, is_set, setting: Mutex::new(()) }
    }

    pub(in crate::engine) fn get(&self) -> Option<&T> {
        if self.is_set.load(Acquire) { self.value.get() } else { None }
    }

    pub(in crate::engine) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.get().unwrap_or_else(|| {
            let _setting = self.setting.lock().expect("a panic ends the model");
            let value = self.value.get_or_init(make);
            self.is_set.store(true, Release);
            value
        })
    }
}
