//! Limits of parameters.

/// The longest times that requests may ask for, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest lease.
    pub lease_ms_max: u32,
    /// The longest cool-down.
    pub cooldown_ms_max: u32,
    /// The longest time to wait for a key.
    pub wait_ms_max: u32,
}

impl Limits {
    /// The default for cool-downs: one hour, in milliseconds.
    pub const COOLDOWN_MS_MAX: u32 = 60 * 60 * 1000;
    /// The default for waiting: one minute, in milliseconds.
    pub const WAIT_MS_MAX: u32 = 60 * 1000;
}

impl Default for Limits {
    /// A lease of one minute, as the problem statement asks for, a cool-down of one hour, and one minute to
    /// wait.
    fn default() -> Self {
        Self {
            lease_ms_max: 60 * 1000,
            cooldown_ms_max: Self::COOLDOWN_MS_MAX,
            wait_ms_max: Self::WAIT_MS_MAX,
        }
    }
}
