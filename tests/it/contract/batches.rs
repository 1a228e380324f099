//! The part of the contract about batches.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, State};
use token_orchestrator::store::{
    Leasing, Operation, Options, Outcome, Release, Renewal, Reply, StoreExt,
};

use super::{Fixture, LIFE_MS};

const LEASE: Operation<'_> = Operation::Lease(Leasing::of_any(None, 0));

pub(super) async fn a_batch_is_answered_in_its_order<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids = f.store().create(4).await.unwrap().ids;
    let unknown = KeyId::random(&mut rand::rng());
    let operations = [
        Operation::Show(unknown),
        Operation::KeepAlive(ids[0]),
        Operation::Create { count: 2 },
        Operation::Delete(ids[1], Fence::Any),
        Operation::Renew(ids[2], Renewal::default()),
        Operation::Show(ids[3]),
        Operation::Release(ids[0], Release::default()),
        LEASE,
        Operation::Create { count: 200 },
        Operation::KeepAlive(ids[1]),
    ];
    let outcomes = f.store().call_all(&operations).await;
    let [
        Err(Error::NotFound),
        Ok(Reply::KeptAlive(life_ends)),
        Ok(Reply::Created(two)),
        Ok(Reply::Deleted),
        Err(Error::NotLeased),
        Ok(Reply::Shown(info)),
        Ok(Reply::Released),
        Ok(Reply::Leased(lease)),
        Ok(Reply::Created(many)),
        Err(Error::NotFound),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(*life_ends, f.now().plus_ms(LIFE_MS));
    assert_eq!((two.ids.len(), many.ids.len()), (2, 200));
    assert_eq!(info.state, State::Free);
    assert_eq!(f.store().get(&lease.id).await.unwrap().state, State::Leased(lease.lease));
    assert_eq!(f.store().call_all(&[]).await, []);
}

pub(super) async fn operations_on_one_key_take_effect_in_their_order<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let lease = f.lease().await;
    let fence = Fence::One(lease.generation);
    let cooling = Release { cooldown_ms: 5, ..Release::default() };
    let operations = [
        Operation::Renew(id, Renewal { fence, lease_ms: Some(7) }),
        Operation::Show(id),
        Operation::Release(id, Release { fence, cooldown_ms: 0 }),
        Operation::Release(id, Release { fence, cooldown_ms: 0 }),
        Operation::Renew(id, Renewal::default()),
        Operation::Release(id, cooling),
        Operation::Show(id),
        Operation::KeepAlive(id),
        Operation::Delete(id, fence),
        Operation::Delete(id, Fence::Any),
        Operation::Show(id),
        Operation::KeepAlive(id),
    ];
    let outcomes = f.store().call_all(&operations).await;
    let [
        Ok(Reply::Renewed(renewed)),
        Ok(Reply::Shown(leased)),
        Ok(Reply::Released),
        Err(Error::Stale),
        Err(Error::NotLeased),
        Ok(Reply::Released),
        Ok(Reply::Shown(cooled)),
        Ok(Reply::KeptAlive(_)),
        Err(Error::Stale),
        Ok(Reply::Deleted),
        Err(Error::NotFound),
        Err(Error::NotFound),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!((renewed.generation, renewed.until), (lease.generation, f.now().plus_ms(7)));
    assert_eq!(leased.state, State::Leased(*renewed));
    assert_eq!(cooled.state, State::Cooling { since: f.now(), until: f.now().plus_ms(5) });
}

/// A batch that is longer than what a store may do at a time.
pub(super) async fn a_long_batch_is_answered_in_its_order<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let mut ids = f.store().create(300).await.unwrap().ids;
    for id in ids.iter_mut().step_by(3) {
        f.store().delete(id, Fence::Any).await.unwrap();
    }
    f.advance(5).await;
    let operations: Vec<_> = ids.iter().map(|id| Operation::KeepAlive(*id)).collect();
    for (n, outcome) in f.store().call_all(&operations).await.into_iter().enumerate() {
        let is_dead = n % 3 == 0;
        let life_ends = f.now().plus_ms(LIFE_MS);
        let expected = if is_dead { Err(Error::NotFound) } else { Ok(Reply::KeptAlive(life_ends)) };
        assert_eq!(outcome, expected, "{n}");
    }
}

pub(super) async fn leases_of_a_batch_are_distinct<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids: HashSet<_> = f.store().create(300).await.unwrap().ids.into_iter().collect();
    let short = Operation::Lease(Leasing::of_any(Some(9), 0));
    let show = Operation::Show(*ids.iter().next().unwrap());
    // In runs of all lengths, and others in between.
    let mut operations = Vec::new();
    for run in 0..24 {
        operations.extend(vec![LEASE; run]);
        operations.extend([short.clone(), show.clone()]);
    }
    operations.extend(vec![LEASE; 100]);
    let outcomes = f.store().call_all(&operations).await;
    assert_eq!(outcomes.len(), operations.len());
    let (mut leased, mut exhausted) = (HashSet::new(), 0);
    for (operation, outcome) in operations.iter().zip(outcomes) {
        match (operation, outcome) {
            (Operation::Lease(Leasing { lease_ms, .. }), Ok(Reply::Leased(lease))) => {
                assert!(leased.insert(lease.id), "leased twice");
                assert!(exhausted == 0, "a key was free before");
                let ms = lease_ms.map_or(super::LEASE_MS, u64::from);
                assert_eq!(lease.until, f.now().plus_ms(ms));
            }
            (Operation::Lease(_), Err(Error::Exhausted { retry_after_ms })) => {
                assert_eq!(retry_after_ms, Some(9));
                exhausted += 1;
            }
            (Operation::Show(_), Ok(Reply::Shown(_))) => {}
            (operation, outcome) => panic!("{operation:?} {outcome:?}"),
        }
    }
    assert_eq!((leased, exhausted), (ids, 24 * 23 / 2 + 24 + 100 - 300));
}

pub(super) async fn a_lease_that_waits_holds_up_no_other_operation<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.lease().await;
    f.advance(5).await;
    let operations = [
        Operation::Lease(Leasing::of_any(None, 1000)),
        Operation::KeepAlive(id),
        Operation::Show(id),
    ];
    let mut batch = pin!(f.store().call_all(&operations));
    f.settle().await;
    assert!(poll_fn(|cx| Poll::Ready(batch.as_mut().poll(cx).is_pending())).await);
    let life_ends = f.now().plus_ms(LIFE_MS);
    assert_eq!(f.store().get(&id).await.unwrap().life_ends, life_ends);
    f.store().release(&id, Release::default()).await.unwrap();
    let outcomes: Vec<Outcome> = batch.await;
    let [Ok(Reply::LeasedLate(lease)), Ok(Reply::KeptAlive(_)), Ok(Reply::Shown(info))] =
        &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!((lease.id, info.life_ends), (id, life_ends));
}
