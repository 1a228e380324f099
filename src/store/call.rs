//! A batch of operations that somebody waits for.

use std::future::poll_fn;
use std::mem::take;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::committed::committed;
use super::operation::{Answer, Operation, Outcome, Ticket, lease_of};
use super::port::{Complete, Later, Store};
use crate::pool::PoolId;

/// A batch that has begun. Dropping it cancels operations, and gives back the leases in its outcomes.
pub(super) struct Call<'a, S: Store> {
    store: &'a S,
    gathered: Arc<Gathered>,
    tickets: Vec<Ticket>,
}

/// Receives the outcomes of a batch.
#[derive(Default)]
struct Gathered(Mutex<Gathering>);

#[derive(Default)]
struct Gathering {
    outcomes: Vec<Option<Outcome>>,
    /// Outcomes still to come. It wraps below zero if some come before all tickets are counted.
    missing: usize,
    waker: Option<Waker>,
    is_abandoned: bool,
}

impl Complete for Gathered {
    fn complete(&self, token: u64, outcome: Outcome) -> bool {
        let mut gathering = self.0.lock();
        if gathering.is_abandoned {
            return false;
        }
        let place = usize::try_from(token).expect("tokens begin at 0");
        gathering.put(place, outcome);
        gathering.missing = gathering.missing.wrapping_sub(1);
        if gathering.missing == 0
            && let Some(waker) = gathering.waker.take()
        {
            waker.wake();
        }
        true
    }
}

impl Gathering {
    fn put(&mut self, place: usize, outcome: Outcome) {
        if self.outcomes.len() <= place {
            self.outcomes.resize(place + 1, None);
        }
        self.outcomes[place] = Some(outcome);
    }
}

impl<'a, S: Store> Call<'a, S> {
    pub(super) fn begin(store: &'a S, operations: &[(PoolId, Operation<'_>)]) -> Self {
        let gathered = Arc::<Gathered>::default();
        let receiver = Arc::clone(&gathered) as Arc<dyn Complete>;
        let mut answers = Vec::with_capacity(operations.len());
        store.execute(operations, &mut answers, &Later { receiver, first_token: 0 });
        let mut tickets = Vec::new();
        let mut gathering = gathered.0.lock();
        for (place, answer) in answers.into_iter().enumerate() {
            match answer {
                Answer::Now(outcome) => gathering.put(place, outcome),
                Answer::Later(ticket) => tickets.push(ticket),
            }
        }
        // Outcomes that have come already were subtracted before.
        gathering.missing = gathering.missing.wrapping_add(tickets.len());
        drop(gathering);
        Self { store, gathered, tickets }
    }

    /// The outcomes, once all that they rest on is durable.
    pub(super) async fn outcomes(&mut self) -> Vec<Outcome> {
        self.have_come().await;
        // They stay where they are, so that leases go back if this future is dropped meanwhile.
        committed(self.store).await;
        self.take()
    }

    /// The outcomes as soon as they are there, though what they rest on may not be durable yet.
    pub(super) async fn early_outcomes(&mut self) -> Vec<Outcome> {
        self.have_come().await;
        self.take()
    }

    fn have_come(&self) -> impl Future<Output = ()> + Send {
        poll_fn(|context| {
            let mut gathering = self.gathered.0.lock();
            if gathering.missing > 0 {
                gathering.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    }

    fn take(&mut self) -> Vec<Outcome> {
        let outcomes = take(&mut self.gathered.0.lock().outcomes);
        outcomes.into_iter().map(|outcome| outcome.expect("none is missing")).collect()
    }
}

impl<S: Store> Drop for Call<'_, S> {
    fn drop(&mut self) {
        let mut gathering = self.gathered.0.lock();
        gathering.is_abandoned = true;
        let (outcomes, missing) = (take(&mut gathering.outcomes), gathering.missing);
        drop(gathering);
        if missing > 0 {
            self.tickets.iter().for_each(|ticket| self.store.cancel(*ticket));
        }
        let leases: Vec<_> = outcomes.iter().flatten().filter_map(lease_of).collect();
        if !leases.is_empty() {
            self.store.give_back(leases);
        }
    }
}
