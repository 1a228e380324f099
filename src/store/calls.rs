//! Each operation as an async method: a batch of one, or of a few.

use std::mem::take;

use super::call::Call;
use super::committed::committed;
use super::give_way::give_way;
use super::operation::{
    Created, Leasing, Operation, Outcome, Release, Renewal, Reply, RequestKey, lease_with,
};
use super::port::{Stats, Store};
use crate::error::Error;
use crate::key::{Fence, KeyId, KeyInfo, Lease, Leased};
use crate::pool::PoolId;
use crate::time::Timestamp;

/// How many keys one batch leases before other tasks may run: some 50 µs.
const BATCH: usize = 64;

/// One pool of a store.
pub struct InPool<'a, S: ?Sized> {
    store: &'a S,
    pool: PoolId,
}

impl<S: ?Sized> Clone for InPool<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: ?Sized> Copy for InPool<'_, S> {}

/// The operations of one pool of a [`Store`], one at a time. Those of the store itself are for the default pool, those of
/// [`StoreExt::pool`] for another one.
///
/// An operation begins when its method is called, but for [`StoreExt::lease_many`]. If its future is dropped
/// before it is ready, a lease leaves the queue or goes back to the store; any other operation may or may not
/// have been carried out.
///
/// What a method returns is durable. Those whose names end in `early` are the exception, for callers that have to know
/// an outcome first, or that combine many: they wait for [`committed`] before they tell a client, also of an error.
pub trait StoreExt: Sync {
    /// The store that has the pool.
    type Of: Store;

    /// The store, and the pool in it.
    fn place(&self) -> (&Self::Of, PoolId);

    /// Another pool of the store.
    fn pool(&self, pool: PoolId) -> InPool<'_, Self::Of> {
        InPool { store: self.place().0, pool }
    }

    /// The counts of the pool at about one moment.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::Unavailable`]
    fn stats(&self) -> impl Future<Output = Result<Stats, Error>> + Send {
        let (store, pool) = self.place();
        store.stats_of(pool)
    }

    /// Executes a batch for this pool, and waits for all outcomes.
    fn call_all(&self, operations: &[Operation<'_>]) -> impl Future<Output = Vec<Outcome>> + Send {
        // Begun here, so that the future does not borrow the operations.
        let call = begin(self.place(), operations);
        async move {
            let mut call = call;
            call.outcomes().await
        }
    }

    /// As [`StoreExt::call_all`], but what it returns may not be durable yet.
    fn call_all_early(
        &self,
        operations: &[Operation<'_>],
    ) -> impl Future<Output = Vec<Outcome>> + Send {
        let call = begin(self.place(), operations);
        async move {
            let mut call = call;
            call.early_outcomes().await
        }
    }

    /// Executes a batch for several pools, and waits for all outcomes.
    fn call_each(
        &self,
        operations: &[(PoolId, Operation<'_>)],
    ) -> impl Future<Output = Vec<Outcome>> + Send {
        // Begun here, so that the future does not borrow the operations.
        let call = Call::begin(self.place().0, operations);
        async move {
            let mut call = call;
            call.outcomes().await
        }
    }

    /// [`Operation::Create`]
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unavailable`]
    fn create(&self, count: usize) -> impl Future<Output = Result<Created, Error>> + Send {
        one(self.place(), Operation::Create { count }, |reply| match reply {
            Reply::Created(created) => Some(created),
            _ => None,
        })
    }

    /// [`Operation::Lease`]
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`], [`Error::TooManyWaiters`], [`Error::Unavailable`]
    fn lease(&self, leasing: Leasing) -> impl Future<Output = Result<Leased, Error>> + Send {
        one(self.place(), Operation::Lease(leasing), leased)
    }

    /// [`Operation::LeaseOnce`], or [`Operation::Lease`] without a request key.
    ///
    /// # Errors
    ///
    /// As [`StoreExt::lease`], and [`Error::RequestInProgress`], [`Error::RequestReused`].
    fn lease_once(
        &self,
        leasing: Leasing,
        request: Option<RequestKey>,
    ) -> impl Future<Output = Result<Leased, Error>> + Send {
        one(self.place(), lease_with(leasing, request), leased)
    }

    /// As [`StoreExt::lease_once`], but what it returns may not be durable yet.
    ///
    /// # Errors
    ///
    /// As [`StoreExt::lease_once`].
    fn lease_once_early(
        &self,
        leasing: Leasing,
        request: Option<RequestKey>,
    ) -> impl Future<Output = Result<Leased, Error>> + Send {
        let call = begin(self.place(), &[lease_with(leasing, request)]);
        async move {
            let mut call = call;
            read(call.early_outcomes().await, leased)
        }
    }

    /// Leases up to `count` random free keys, at least one, in batches. It waits for the first one only. If
    /// the future is dropped, the leases that it has made go back to the store.
    ///
    /// # Errors
    ///
    /// As [`StoreExt::lease`].
    fn lease_many(
        &self,
        leasing: Leasing,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Leased>, Error>> + Send {
        self.lease_many_once(leasing, count, None)
    }

    /// As [`StoreExt::lease_many`]. With a request key, each of the keys is leased once.
    ///
    /// # Errors
    ///
    /// As [`StoreExt::lease_once`].
    fn lease_many_once(
        &self,
        leasing: Leasing,
        count: usize,
        request: Option<RequestKey>,
    ) -> impl Future<Output = Result<Vec<Leased>, Error>> + Send {
        async move {
            let store = self.place().0;
            let leased = self.lease_many_early(leasing, count, request).await;
            let (leases, refusal) =
                leased.map_or_else(|error| (Vec::new(), Some(error)), |leases| (leases, None));
            let mut given = Given { store, leases };
            committed(store).await;
            refusal.map_or_else(|| Ok(take(&mut given.leases)), Err)
        }
    }

    /// As [`StoreExt::lease_many_once`], but what it returns may not be durable yet.
    ///
    /// # Errors
    ///
    /// As [`StoreExt::lease_once`].
    fn lease_many_early(
        &self,
        leasing: Leasing,
        count: usize,
        request: Option<RequestKey>,
    ) -> impl Future<Output = Result<Vec<Leased>, Error>> + Send {
        async move {
            let mut given =
                Given { store: self.place().0, leases: Vec::with_capacity(count.min(BATCH)) };
            let at_once = leasing.at_once();
            while given.leases.len() < count {
                let begin = given.leases.len();
                // The first one tells whether the request key is another's.
                let batch = if request.is_some() && begin == 0 { 1 } else { BATCH };
                let operations: Vec<_> = (begin..count.min(begin + batch))
                    .map(|n| lease_with(at_once.clone(), request.map(|request| request.nth(n))))
                    .collect();
                let mut refusal = None;
                for outcome in self.call_all_early(&operations).await {
                    match outcome {
                        Ok(reply) => given.leases.extend(leased(reply)),
                        Err(error) => refusal = Some(error),
                    }
                }
                match refusal {
                    None => give_way().await,
                    Some(_) if !given.leases.is_empty() => break,
                    Some(Error::Exhausted { .. }) if leasing.wait_ms > 0 => {
                        let leased = self.lease_once_early(leasing.clone(), request).await?;
                        given.leases.push(leased);
                    }
                    Some(error) => return Err(error),
                }
            }
            Ok(take(&mut given.leases))
        }
    }

    /// [`Operation::Renew`]
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::NotLeased`], [`Error::Unavailable`]
    fn renew(
        &self,
        id: &KeyId,
        renewal: Renewal<'_>,
    ) -> impl Future<Output = Result<Lease, Error>> + Send {
        one(self.place(), Operation::Renew(*id, renewal), |reply| match reply {
            Reply::Renewed(lease) => Some(lease),
            _ => None,
        })
    }

    /// [`Operation::Release`]
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::Unavailable`]
    fn release(
        &self,
        id: &KeyId,
        release: Release<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        one(self.place(), Operation::Release(*id, release), |reply| match reply {
            Reply::Released => Some(()),
            _ => None,
        })
    }

    /// [`Operation::KeepAlive`]
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Unavailable`]
    fn keep_alive(&self, id: &KeyId) -> impl Future<Output = Result<Timestamp, Error>> + Send {
        one(self.place(), Operation::KeepAlive(*id), |reply| match reply {
            Reply::KeptAlive(life_ends) => Some(life_ends),
            _ => None,
        })
    }

    /// [`Operation::Delete`]
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::Unavailable`]
    fn delete(
        &self,
        id: &KeyId,
        fence: Fence<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        one(self.place(), Operation::Delete(*id, fence), |reply| match reply {
            Reply::Deleted => Some(()),
            _ => None,
        })
    }

    /// [`Operation::Show`]
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Unavailable`]
    fn get(&self, id: &KeyId) -> impl Future<Output = Result<KeyInfo, Error>> + Send {
        one(self.place(), Operation::Show(*id), |reply| match reply {
            Reply::Shown(info) => Some(info),
            _ => None,
        })
    }
}

impl<S: Store> StoreExt for S {
    type Of = S;

    fn place(&self) -> (&S, PoolId) {
        (self, PoolId::DEFAULT)
    }
}

impl<S: Store> StoreExt for InPool<'_, S> {
    type Of = S;

    fn place(&self) -> (&S, PoolId) {
        (self.store, self.pool)
    }
}

/// Begins a batch for one pool.
fn begin<'a, S: Store>(
    (store, pool): (&'a S, PoolId),
    operations: &[Operation<'_>],
) -> Call<'a, S> {
    let operations: Vec<_> = operations.iter().map(|operation| (pool, operation.clone())).collect();
    Call::begin(store, &operations)
}

/// Executes one operation. `to_value` takes its reply, or is `None` for the reply of another operation.
fn one<S: Store, T>(
    place: (&S, PoolId),
    operation: Operation<'_>,
    to_value: impl FnOnce(Reply) -> Option<T> + Send,
) -> impl Future<Output = Result<T, Error>> + Send {
    let call = begin(place, &[operation]);
    async move {
        let mut call = call;
        read(call.outcomes().await, to_value)
    }
}

/// The value in the outcome of one operation.
fn read<T>(
    mut outcomes: Vec<Outcome>,
    to_value: impl FnOnce(Reply) -> Option<T>,
) -> Result<T, Error> {
    Ok(to_value(outcomes.remove(0)?).expect("a store answers what it was asked"))
}

fn leased(reply: Reply) -> Option<Leased> {
    match reply {
        Reply::Leased(lease) | Reply::LeasedLate(lease) => Some(lease),
        _ => None,
    }
}

/// Leases that go back to the store if they are dropped: the client may go away before it receives them.
struct Given<'a, S: Store> {
    store: &'a S,
    leases: Vec<Leased>,
}

impl<S: Store> Drop for Given<'_, S> {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            self.store.give_back(self.leases.drain(..).map(|leased| leased.lease).collect());
        }
    }
}
