//! Limits of parameters.

use crate::pool::Settings;

/// The longest times that requests may ask for, in milliseconds.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "they are called as in the settings")]
pub(in crate::http) struct Limits {
    /// The longest lease.
    pub(in crate::http) lease_ms_max: u32,
    /// The longest cool-down.
    pub(in crate::http) cooldown_ms_max: u32,
    /// The longest time to wait for a key.
    pub(in crate::http) wait_ms_max: u32,
}

impl Limits {
    /// Anything goes.
    pub(in crate::http) const NONE: Self =
        Self { lease_ms_max: u32::MAX, cooldown_ms_max: u32::MAX, wait_ms_max: u32::MAX };
}

impl From<Settings> for Limits {
    fn from(settings: Settings) -> Self {
        let Settings { lease_ms_max, cooldown_ms_max, wait_ms_max, .. } = settings;
        Self { lease_ms_max, cooldown_ms_max, wait_ms_max }
    }
}
