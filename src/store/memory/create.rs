//! Creating keys: a few at once, or many in steps of the sweep.

use std::sync::Arc;

use super::creation::Creation;
use super::one_pool::OnePool;
use super::pools::Room;
use super::state::Memory;
use crate::error::Error;
use crate::key::KeyId;
use crate::store::give_way::give_way;
use crate::store::operation::{Answer, Created, Outcome, Reply, Ticket};
use crate::store::port::Later;
use crate::time::{Clock, Timestamp};

impl<'a, C: Clock> OnePool<'a, C> {
    /// Creates keys, or leaves it to the sweep if they are many or many dead keys still take their room.
    pub(super) fn create_or_defer(
        &self,
        count: usize,
        now: Timestamp,
        later: &Later,
        token: u64,
    ) -> Answer {
        if count <= Self::STEP {
            let keys = self.keys();
            let room = keys.reserve(count, now).or_else(|_| {
                let is_swept = keys.expire(now, Self::STEP) < Self::STEP;
                self.serve_waiters();
                // Another thread may have removed dead keys meanwhile.
                keys.reserve(count, now).map_err(|error| (is_swept, error))
            });
            match room {
                Ok(mut room) => {
                    let mut created = Created { ids: Vec::with_capacity(count), life_ends: now };
                    while created.ids.len() < count {
                        self.create_some(&mut room, count, &mut created);
                    }
                    return Answer::Now(Ok(Reply::Created(created)));
                }
                Err((true, _)) if keys.is_closed() => return Answer::Now(Err(Error::NoSuchPool)),
                Err((true, error)) => return Answer::Now(Err(error)),
                Err((false, _)) => {}
            }
        }
        let receiver = Arc::clone(&later.receiver);
        let ticket = self.shared.creations.lock().add(self.pool.id, count, receiver, token);
        self.shared.alarm.bell.notify_one();
        Answer::Later(ticket)
    }

    /// Creates `count` keys, or fewer if the creation is cancelled meanwhile.
    async fn create_all(&self, count: usize, ticket: Ticket) -> Outcome {
        let creations = &self.shared.creations;
        let mut room = self.reserve_all(count).await?;
        let mut created = Created { ids: Vec::with_capacity(count), life_ends: self.now() };
        while created.ids.len() < count && creations.lock().is_wanted(ticket) {
            self.create_some(&mut room, count, &mut created);
            give_way().await;
            if self.pool.is_deleted() {
                // With all of these keys.
                return Err(Error::NoSuchPool);
            }
        }
        Ok(Reply::Created(created))
    }

    /// Reserves room for `count` keys. Dead keys take room until they are removed, so that may take a while.
    pub(super) async fn reserve_all(&self, count: usize) -> Result<Room<'a>, Error> {
        let keys = self.keys();
        loop {
            let now = self.now();
            if let Ok(room) = keys.reserve(count, now) {
                return Ok(room);
            }
            if keys.expire(now, Self::STEP) == 0 {
                // Another thread may have removed some meanwhile.
                let room = keys.reserve(count, now);
                return room.map_err(|e| if keys.is_closed() { Error::NoSuchPool } else { e });
            }
            self.serve_waiters();
            give_way().await;
        }
    }

    /// Creates up to [`Memory::STEP`] of the keys that `created` still lacks.
    fn create_some(&self, room: &mut Room<'_>, count: usize, created: &mut Created) {
        let now = self.now();
        let life_ends = room.life_ends(now);
        if created.ids.is_empty() {
            created.life_ends = life_ends;
        }
        for _ in 0..Self::STEP.min(count - created.ids.len()) {
            let id = room.fit(KeyId::random(&mut rand::rng()));
            // If the id was taken, the next step tries another.
            if room.create(id, now) {
                created.ids.push(id);
            }
        }
        if let Some(end) = life_ends.unless_never() {
            self.note_deadline(end);
        }
        self.serve_waiters();
    }
}

impl<C: Clock> Memory<C> {
    /// Carries out a creation in steps.
    pub(super) async fn create_in_steps(self, creation: Creation) {
        let (ticket, count) = (creation.ticket, creation.count);
        let outcome = match self.shared.pools.get(ticket.pool) {
            None => Err(Error::NoSuchPool),
            Some(pool) => {
                OnePool { shared: &self.shared, pool: &pool }.create_all(count, ticket).await
            }
        };
        self.shared.creations.lock().forget(ticket);
        creation.complete(outcome);
    }
}
