//! Choosing keys by a label, and waiting for one.

use std::sync::Arc;

use token_orchestrator::error::Error;
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{Leasing, Options, Release, Store, StoreExt};

use super::super::{Fixture, LEASE_MS};
use super::{
    MANY, WAIT_MS, assert_exhausted, assert_wait, by_label, own, put, soon, value, wait, wait_in,
};

const ANY: Leasing = Leasing::of_any(None, 0);
const WAIT: Leasing = Leasing::of_any(None, WAIT_MS);

/// Releases the key with this id, which is leased.
async fn release<F: Fixture>(f: &F, id: &token_orchestrator::key::KeyId) {
    f.store().release(id, Release::default()).await.unwrap();
}

pub(in super::super) async fn a_lease_by_a_label_finds_only_keys_with_it<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let keys: Vec<_> = (0..MANY)
        .map(|n| match n % 4 {
            0 => own(&format!("pro-{n}"), &["plan:pro", "region:eu"]),
            1 => own(&format!("free-{n}"), &["plan:free", "region:eu"]),
            _ => own(&format!("none-{n}"), &[]),
        })
        .collect();
    f.store().import(PoolId::DEFAULT, &keys).await.unwrap();
    assert_exhausted(&f.store().lease(by_label("plan:none", 0)).await);
    assert_exhausted(&f.store().lease(by_label("plan:pr", 0)).await);
    let mut pro = Vec::new();
    for _ in 0..MANY / 8 {
        pro.push(f.store().lease(by_label("plan:pro", 0)).await.unwrap());
    }
    pro.extend(f.store().lease_many(by_label("plan:pro", 0), MANY).await.unwrap());
    assert_eq!(pro.len(), MANY / 4);
    assert!(pro.iter().all(|leased| value(leased).starts_with("pro-")));
    assert_exhausted(&f.store().lease(by_label("plan:pro", 0)).await);
    assert_exhausted(&f.store().lease_many(by_label("plan:pro", 0), 2).await);
    // A key that was leased by one of its labels has not the other one left.
    let eu = f.store().lease_many(by_label("region:eu", 0), MANY).await.unwrap();
    assert_eq!(eu.len(), MANY / 4);
    assert!(eu.iter().all(|leased| value(leased).starts_with("free-")));
    let others = f.store().lease_many(ANY, MANY).await.unwrap();
    assert_eq!(others.len(), MANY / 2);
    assert!(others.iter().all(|leased| value(leased).starts_with("none-")));
    // Those that are over are free by their labels again.
    f.advance(LEASE_MS).await;
    assert_eq!(f.store().lease_many(by_label("region:eu", 0), MANY).await.unwrap().len(), MANY / 2);
}

pub(in super::super) async fn a_key_goes_to_the_first_who_can_take_it<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let keys = [own("a", &["plan:pro"]), own("b", &["region:eu", "plan:free"]), own("c", &[])];
    let ids = f.store().import(PoolId::DEFAULT, &keys).await.unwrap().ids;
    let [a, b, c] = [ids[0], ids[1], ids[2]];
    assert_eq!(f.store().lease_many(ANY, 3).await.unwrap().len(), 3);
    let pro_1 = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    let any_1 = wait(&f, WAIT).await;
    let eu = wait(&f, by_label("region:eu", WAIT_MS)).await;
    let any_2 = wait(&f, WAIT).await;
    let free = wait(&f, by_label("plan:free", WAIT_MS)).await;
    let pro_2 = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    assert_eq!(f.waiting().await, 6);
    release(&*f, &b).await;
    assert_eq!(value(&soon(&*f, any_1).await.unwrap()), "b");
    assert_wait(&*f, &[&pro_1, &eu, &any_2, &free, &pro_2]).await;
    release(&*f, &b).await;
    assert_eq!(value(&soon(&*f, eu).await.unwrap()), "b");
    assert_wait(&*f, &[&pro_1, &any_2, &free, &pro_2]).await;
    release(&*f, &b).await;
    assert_eq!(value(&soon(&*f, any_2).await.unwrap()), "b");
    // None of those that are left can take it.
    release(&*f, &c).await;
    assert_wait(&*f, &[&pro_1, &free, &pro_2]).await;
    assert!(!f.is_blocked(&c).await);
    release(&*f, &a).await;
    assert_eq!(value(&soon(&*f, pro_1).await.unwrap()), "a");
    release(&*f, &a).await;
    assert_eq!(value(&soon(&*f, pro_2).await.unwrap()), "a");
    assert_wait(&*f, &[&free]).await;
    release(&*f, &b).await;
    assert_eq!(value(&soon(&*f, free).await.unwrap()), "b");
    assert_eq!(f.waiting().await, 0);
    // An imported key, too, goes to those that wait.
    let waiter = wait(&f, by_label("plan:new", WAIT_MS)).await;
    f.store().import(PoolId::DEFAULT, &[own("d", &["plan:new"])]).await.unwrap();
    assert_eq!(value(&soon(&*f, waiter).await.unwrap()), "d");
}

pub(in super::super) async fn a_label_that_no_key_has_holds_up_nobody<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let nobody_has = wait(&f, by_label("none:has", WAIT_MS)).await;
    f.store().import(PoolId::DEFAULT, &[own("a", &["plan:pro"]), own("b", &[])]).await.unwrap();
    assert_eq!(value(&f.store().lease(by_label("plan:pro", 0)).await.unwrap()), "a");
    assert_eq!(value(&f.store().lease(ANY).await.unwrap()), "b");
    // Neither does one whose keys are all leased.
    let pro = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    f.create().await;
    f.store().lease(ANY).await.unwrap();
    let any = wait(&f, WAIT).await;
    f.create().await;
    soon(&*f, any).await.unwrap();
    assert_wait(&*f, &[&nobody_has, &pro]).await;
}

/// Whatever frees a key: those that wait for its label come before those that have come later.
pub(in super::super) async fn nobody_overtakes_those_that_wait_for_a_label<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let id = f.store().import(PoolId::DEFAULT, &[own("a", &["plan:pro"])]).await.unwrap().ids[0];
    let overtake = async || {
        assert_exhausted(&f.store().lease(by_label("plan:pro", 0)).await);
        assert_exhausted(&f.store().lease(ANY).await);
        assert_exhausted(&f.store().lease_many(ANY, 5).await);
    };
    f.store().lease(ANY).await.unwrap();
    let waiter = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    release(&*f, &id).await;
    overtake().await;
    soon(&*f, waiter).await.unwrap();
    // The lease runs out, and nothing has noticed it.
    f.advance(LEASE_MS - 1).await;
    let waiter = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    f.advance(1).await;
    assert_exhausted(&f.store().lease(ANY).await);
    overtake().await;
    assert_eq!(soon(&*f, waiter).await.unwrap().since, f.now());
    // A cool-down ends.
    let cooling = Release { cooldown_ms: 500, ..Release::default() };
    f.store().release(&id, cooling).await.unwrap();
    let waiter = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    f.advance(500).await;
    assert_exhausted(&f.store().lease_many(ANY, 5).await);
    overtake().await;
    assert_eq!(soon(&*f, waiter).await.unwrap().since, f.now());
    // One that joins the queue at that moment has come later, too.
    f.advance(LEASE_MS - 1).await;
    let waiter = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    f.advance(1).await;
    let later = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.store().lease(WAIT).await }
    });
    soon(&*f, waiter).await.unwrap();
    assert_wait(&*f, &[&later]).await;
}

pub(in super::super) async fn a_wait_for_a_label_ends<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let id = f.store().import(PoolId::DEFAULT, &[own("a", &["plan:pro"])]).await.unwrap().ids[0];
    f.store().lease(ANY).await.unwrap();
    // In time.
    let waiter = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    let other = wait(&f, by_label("none:has", WAIT_MS)).await;
    f.advance(u64::from(WAIT_MS) - 1).await;
    assert_wait(&*f, &[&waiter, &other]).await;
    f.advance(1).await;
    assert_exhausted(&soon(&*f, waiter).await);
    assert_exhausted(&soon(&*f, other).await);
    assert_eq!(f.waiting().await, 0);
    // Because the client has gone: the next one in its line is the first then.
    let first = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    let second = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    let third = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    first.abort();
    third.abort();
    f.settle().await;
    assert_eq!(f.waiting().await, 1);
    release(&*f, &id).await;
    soon(&*f, second).await.unwrap();
    release(&*f, &id).await;
    assert!(!f.is_blocked(&id).await);
    // A lease that ends at the same moment is in time.
    f.store().lease(Leasing::of_any(Some(WAIT_MS), 0)).await.unwrap();
    let waiter = wait(&f, by_label("plan:pro", WAIT_MS)).await;
    f.advance(u64::from(WAIT_MS)).await;
    soon(&*f, waiter).await.unwrap();
}

pub(in super::super) async fn those_that_wait_for_a_label_go_with_their_pool<F: Fixture>() {
    let f = Arc::new(F::make(Options { waiters_max: 4, ..Options::default() }).await);
    let pool = put(&*f, "p").await.place().1;
    let mut waiters = Vec::new();
    for leasing in [by_label("a:b", WAIT_MS), by_label("a:b", WAIT_MS), by_label("c:d", WAIT_MS)] {
        waiters.push(wait_in(&f, pool, leasing).await);
    }
    waiters.push(wait_in(&f, pool, WAIT).await);
    assert_eq!(f.store().lease(by_label("e:f", WAIT_MS)).await, Err(Error::TooManyWaiters));
    f.store().delete_pool("p", false).await.unwrap();
    for waiter in waiters {
        assert_eq!(soon(&*f, waiter).await, Err(Error::NoSuchPool));
    }
    assert_eq!(f.store().pool(pool).lease(by_label("a:b", 0)).await, Err(Error::NoSuchPool));
    // They have made room for others.
    for _ in 0..4 {
        wait(&f, by_label("e:f", WAIT_MS)).await;
    }
    assert_eq!(f.waiting().await, 4);
}

/// Far more labels than a store looks at in one step.
pub(in super::super) async fn many_labels_are_waited_for<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let mut waiters = Vec::new();
    for n in 0..MANY {
        waiters.push(wait(&f, by_label(&format!("n:{n}"), WAIT_MS)).await);
    }
    let keys: Vec<_> =
        (0..MANY).rev().map(|n| own(&format!("sk-{n}"), &[&format!("n:{n}"), "all:yes"])).collect();
    let ids = f.store().import(PoolId::DEFAULT, &keys).await.unwrap().ids;
    for (n, waiter) in waiters.into_iter().enumerate() {
        assert_eq!(value(&soon(&*f, waiter).await.unwrap()), format!("sk-{n}"));
    }
    // Each key is freed for the last one that waits.
    let mut waiters = Vec::new();
    for n in 0..MANY {
        waiters.push(wait(&f, by_label(&format!("n:{n}"), WAIT_MS)).await);
    }
    release(&*f, &ids[0]).await;
    let last = waiters.pop().unwrap();
    assert_eq!(value(&soon(&*f, last).await.unwrap()), format!("sk-{}", MANY - 1));
    assert_eq!(f.waiting().await, MANY as u64 - 1);
}
