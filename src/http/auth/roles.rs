//! Roles: what a token allows.

use std::str::FromStr;

use crate::http::route::Need;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leasing, releasing, renewing, keeping alive and showing keys.
    Client,
    /// Everything.
    Admin,
    /// Metrics and counts.
    Metrics,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Client, Self::Admin, Self::Metrics];

    /// The name of the role in a file of tokens. O(1).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// Whether the role is enough for `need`.
    pub(in crate::http) const fn allows(self, need: Need) -> bool {
        match need {
            Need::Nothing | Need::Count => true,
            Need::Scrape => matches!(self, Self::Admin | Self::Metrics),
            Need::Use => matches!(self, Self::Admin | Self::Client),
            Need::Manage => matches!(self, Self::Admin),
        }
    }

    /// The least role that is enough for `need`: `admin` only if no other role is.
    pub(in crate::http) fn least_for(need: Need) -> Self {
        let mut enough = Self::ALL.into_iter().filter(|role| role.allows(need));
        enough.find(|role| *role != Self::Admin).unwrap_or(Self::Admin)
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| "must be client, admin or metrics".to_owned())
    }
}
