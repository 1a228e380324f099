//! How outcomes that a store completes later reach an event loop.

use std::sync::Arc;

use super::mailbox::{Mailbox, Message};
use crate::store::{Complete, Outcome};

/// Puts outcomes into the mailbox of one loop.
pub(super) struct Completions {
    mailbox: Arc<Mailbox>,
    generation: u64,
}

impl Completions {
    pub(super) fn new(mailbox: &Arc<Mailbox>) -> Self {
        Self { mailbox: Arc::clone(mailbox), generation: mailbox.next_generation() }
    }

    /// Tells this loop from earlier ones with the same mailbox, which have panicked.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Complete for Completions {
    fn complete(&self, token: u64, outcome: Outcome) -> bool {
        let completed = Message::Completed { generation: self.generation, token, outcome };
        self.mailbox.put(completed).is_ok()
    }
}
