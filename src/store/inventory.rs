//! Lists of keys, a page at a time.

use crate::key::{KeyId, KeyInfo, Label, State};

/// What a page of a list of keys is to have.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The cursor of the page before; without one the list begins.
    pub cursor: Option<&'a str>,
    /// How many keys it has at most, from 1 to [`Wanted::LIMIT_MAX`].
    pub limit: usize,
    /// Only keys in this state.
    pub state: Option<StateKind>,
    /// Only keys with this label.
    pub label: Option<&'a Label>,
}

impl Wanted<'_> {
    /// The most keys of a page.
    pub const LIMIT_MAX: usize = 1000;
}

/// A state without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// It can be leased.
    Free,
    /// A client has it.
    Leased,
    /// It cools down.
    Cooling,
}

impl From<&State> for StateKind {
    fn from(state: &State) -> Self {
        match state {
            State::Free => Self::Free,
            State::Leased(_) => Self::Leased,
            State::Cooling { .. } => Self::Cooling,
        }
    }
}

/// Some of the keys of a pool. There may be fewer than are wanted, or none, before the end of the list.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The keys, in no order that means anything.
    pub keys: Vec<(KeyId, KeyInfo)>,
    /// Where the list goes on; `None` at its end.
    pub cursor: Option<String>,
}
