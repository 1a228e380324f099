//! The part of the contract about pools.

use std::sync::Arc;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, State};
use token_orchestrator::pool::{PoolId, PoolName, Settings};
use token_orchestrator::store::{
    InPool, Leasing, Listed, Operation, Options, Release, RequestKey, Store, StoreExt,
};

use super::{Fixture, LEASE_MS, LIFE_MS};

const WAIT: Leasing = Leasing::of_any(None, 10_000);

fn name(text: &str) -> PoolName {
    text.parse().unwrap()
}

/// Creates or changes a pool.
async fn put<'a, F: Fixture>(f: &'a F, text: &str, settings: Settings) -> InPool<'a, F::Store> {
    f.store().put_pool(name(text), settings).await.unwrap();
    f.store().pool(f.store().find_pool(text).unwrap())
}

async fn names<F: Fixture>(f: &F, after: Option<&str>, limit: usize) -> Vec<String> {
    let listed = f.store().list_pools(after, limit).await.unwrap();
    for Listed { id, name } in &listed {
        assert_eq!(f.store().find_pool(name.as_str()), Some(*id));
        assert_eq!(f.store().name_of(*id).as_ref(), Some(name));
    }
    listed.into_iter().map(|pool| pool.name.to_string()).collect()
}

pub(super) async fn pools_come_and_go<F: Fixture>() {
    let f = F::make(Options { pools_max: 3, ..Options::default() }).await;
    let (store, settings) = (f.store(), f.store().default_settings());
    assert_eq!(store.find_pool("default"), Some(PoolId::DEFAULT));
    assert_eq!(store.find_pool("b"), None);
    assert_eq!(store.put_pool(name("b"), settings).await, Ok(true));
    let b = store.find_pool("b").unwrap();
    let version = store.pools_version();
    assert_eq!(store.put_pool(name("b"), settings).await, Ok(false));
    assert_eq!((store.find_pool("b"), store.pools_version()), (Some(b), version));
    assert_eq!(store.put_pool(name("z"), settings).await, Ok(true));
    assert_ne!(store.pools_version(), version);
    assert_eq!(store.put_pool(name("y"), settings).await, Err(Error::TooManyPools));
    assert_eq!(names(&f, None, 9).await, ["b", "default", "z"]);
    assert_eq!(names(&f, None, 2).await, ["b", "default"]);
    assert_eq!(names(&f, Some("b"), 2).await, ["default", "z"]);
    assert_eq!(names(&f, Some("c"), 9).await, ["default", "z"]);
    assert!(names(&f, Some("z"), 9).await.is_empty());
    let version = store.pools_version();
    assert_eq!(store.delete_pool("b", false).await, Ok(()));
    assert_ne!(store.pools_version(), version);
    assert_eq!(store.delete_pool("b", true).await, Err(Error::NoSuchPool));
    assert_eq!(store.delete_pool("default", true).await, Err(Error::DefaultPool));
    // What has its name now is another one.
    assert_eq!(store.put_pool(name("b"), settings).await, Ok(true));
    assert_ne!(store.find_pool("b"), Some(b));
    for outcome in [
        store.pool(b).create(1).await.map(drop),
        store.pool(b).create(1000).await.map(drop),
        store.pool(b).lease(Leasing::default()).await.map(drop),
        store.pool(b).lease(WAIT).await.map(drop),
        store.pool(b).stats().await.map(drop),
    ] {
        assert_eq!(outcome, Err(Error::NoSuchPool));
    }
    assert_eq!((store.settings_of(b), store.name_of(b)), (None, None));
}

pub(super) async fn a_pool_with_keys_is_not_deleted_by_mistake<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let pool = put(&f, "p", Settings::default()).await;
    pool.create(3).await.unwrap();
    assert_eq!(f.store().delete_pool("p", false).await, Err(Error::PoolNotEmpty));
    assert_eq!(pool.stats().await.unwrap().keys, 3);
    // Dead keys do not count.
    f.advance(LIFE_MS).await;
    assert_eq!(f.store().delete_pool("p", false).await, Ok(()));
    let pool = put(&f, "p", Settings::default()).await;
    let id = pool.create(200).await.unwrap().ids[0];
    assert_eq!(f.store().delete_pool("p", true).await, Ok(()));
    assert_eq!(pool.get(&id).await, Err(Error::NoSuchPool));
    let pool = put(&f, "p", Settings::default()).await;
    assert_eq!(pool.get(&id).await, Err(Error::NotFound));
    assert_eq!(pool.stats().await.unwrap().totals.created, 0);
}

pub(super) async fn each_pool_has_keys_of_its_own<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let (a, b) = (put(&f, "a", Settings::default()).await, put(&f, "b", Settings::default()).await);
    let id = a.create(1).await.unwrap().ids[0];
    assert_eq!(a.get(&id).await.unwrap().state, State::Free);
    for other in [b, f.store().pool(PoolId::DEFAULT)] {
        assert_eq!(other.get(&id).await, Err(Error::NotFound));
        assert_eq!(other.keep_alive(&id).await, Err(Error::NotFound));
        assert_eq!(other.release(&id, Release::default()).await, Err(Error::NotFound));
        assert_eq!(other.delete(&id, Fence::Any).await, Err(Error::NotFound));
        let refused = other.lease(Leasing::default()).await;
        assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    }
    let lease = a.lease(Leasing::default()).await.unwrap();
    assert_eq!((lease.id, Some(lease.pool)), (id, f.store().find_pool("a")));
    let leased = async |pool: InPool<'_, F::Store>| pool.stats().await.unwrap().leased;
    assert_eq!((leased(a).await, leased(b).await), (1, 0));
    f.store().give_back(vec![*lease]);
    f.settle().await;
    assert_eq!(leased(a).await, 0);
}

pub(super) async fn each_pool_has_settings_of_its_own<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let own = Settings {
        key_ttl_ms: Some(50_000),
        lease_ttl_ms: 1000,
        keys_max: 2,
        ..Settings::default()
    };
    let (a, b) = (put(&f, "a", own).await, put(&f, "b", Settings::default()).await);
    let id_of = |name| f.store().find_pool(name).unwrap();
    assert_eq!(f.store().settings_of(id_of("a")), Some(own));
    assert_eq!(f.store().settings_of(id_of("b")), Some(Settings::default()));
    a.create(2).await.unwrap();
    assert!(matches!(a.create(1).await, Err(Error::Full { .. })));
    assert_eq!(a.stats().await.unwrap().keys_max, 2);
    b.create(3).await.unwrap();
    let until = |lease: token_orchestrator::key::Leased| lease.until.ms_since(lease.since);
    assert_eq!(until(a.lease(Leasing::default()).await.unwrap()), 1000);
    assert_eq!(until(b.lease(Leasing::default()).await.unwrap()), LEASE_MS);
    f.advance(50_000).await;
    let refused = a.lease(Leasing::default()).await;
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    assert!(b.lease(Leasing::default()).await.is_ok());
    // What has begun stays as it is; what begins is as it was changed.
    let changed = Settings { lease_ttl_ms: 7, keys_max: 9, ..own };
    assert_eq!(f.store().put_pool(name("b"), changed).await, Ok(false));
    assert_eq!(until(b.lease(Leasing::default()).await.unwrap()), 7);
    assert_eq!(b.stats().await.unwrap().leased, 3);
    let id = b.create(1).await.unwrap().ids[0];
    assert_eq!(b.get(&id).await.unwrap().life_ends, f.now().plus_ms(50_000));
    b.create(5).await.unwrap();
    assert!(matches!(b.create(1).await, Err(Error::Full { .. })));
}

pub(super) async fn a_lease_that_ran_out_is_followed_by_the_cool_down_of_its_pool<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let settings = Settings { lapse_cooldown_ms: 500, ..Settings::default() };
    let pool = put(&f, "p", settings).await;
    let id = pool.create(1).await.unwrap().ids[0];
    let lease = pool.lease(Leasing::default()).await.unwrap();
    f.advance(LEASE_MS).await;
    let cooling = State::Cooling { since: lease.until, until: lease.until.plus_ms(500) };
    assert_eq!(pool.get(&id).await.unwrap().state, cooling);
    // What had lapsed before the change goes on to cool down.
    put(&f, "p", Settings::default()).await;
    f.advance(499).await;
    assert_eq!(pool.get(&id).await.unwrap().state, cooling);
    assert!(pool.lease(Leasing::default()).await.is_err());
    f.advance(1).await;
    assert_eq!(pool.lease(Leasing::default()).await.unwrap().id, id);
    f.advance(LEASE_MS).await;
    assert_eq!(pool.get(&id).await.unwrap().state, State::Free);
}

pub(super) async fn waiters_get_keys_of_their_pool<F: Fixture>() {
    let f = Arc::new(F::make(Options { waiters_max: 3, ..Options::default() }).await);
    let mut waiting = Vec::new();
    for text in ["a", "b", "c"] {
        put(&*f, text, Settings::default()).await;
        let f = Arc::clone(&f);
        let pool = f.store().find_pool(text).unwrap();
        let task = tokio::spawn(async move { f.store().pool(pool).lease(WAIT).await });
        waiting.push((pool, task));
    }
    f.settle().await;
    // The limit is for all pools.
    assert_eq!(f.store().lease(WAIT).await, Err(Error::TooManyWaiters));
    let (pool, second) = waiting.remove(1);
    let id = f.store().pool(pool).create(1).await.unwrap().ids[0];
    assert_eq!(second.await.unwrap().unwrap().id, id);
    // With their pool, they go too.
    let (_, third) = waiting.remove(1);
    assert_eq!(f.store().delete_pool("c", false).await, Ok(()));
    assert_eq!(third.await.unwrap(), Err(Error::NoSuchPool));
    let (pool, first) = waiting.remove(0);
    assert_eq!(f.store().pool(pool).stats().await.unwrap().waiting, 1);
    f.advance(u64::from(WAIT.wait_ms)).await;
    let refused = first.await.unwrap();
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
}

pub(super) async fn deadlines_are_kept_in_all_pools<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let mut pools = Vec::new();
    for n in 0..200 {
        let key_ttl_ms = Some(1000 + n % 10);
        let settings = Settings { key_ttl_ms, lease_ttl_ms: 100, ..Settings::default() };
        let pool = put(&f, &format!("p{n}"), settings).await;
        pool.create(2).await.unwrap();
        pool.lease(Leasing::default()).await.unwrap();
        pools.push(pool);
    }
    f.settle().await;
    f.advance(99).await;
    f.settle().await;
    for pool in &pools {
        assert_eq!(pool.stats().await.unwrap().leased, 1);
    }
    f.advance(1).await;
    f.settle().await;
    for pool in &pools {
        let stats = pool.stats().await.unwrap();
        assert_eq!((stats.free, stats.totals.lease_timeouts), (2, 1));
    }
    for past in 0..10 {
        f.advance(if past == 0 { 900 } else { 1 }).await;
        f.settle().await;
        for (n, pool) in pools.iter().enumerate() {
            let keys = if n % 10 <= past { 0 } else { 2 };
            assert_eq!(pool.stats().await.unwrap().keys, keys, "pool {n} {past} ms later");
        }
    }
}

pub(super) async fn a_request_key_is_for_one_pool<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let request = |n| {
        let digest = [n; RequestKey::DIGEST_BYTES];
        Some(RequestKey { digest, parameters: [0; 5] })
    };
    let pool = put(&f, "p", Settings::default()).await;
    pool.create(2).await.unwrap();
    let lease = pool.lease_once(Leasing::default(), request(1)).await.unwrap();
    assert_eq!(pool.lease_once(Leasing::default(), request(1)).await, Ok(lease));
    // With the pool goes what is known of its requests.
    f.store().delete_pool("p", true).await.unwrap();
    let pool = put(&f, "p", Settings::default()).await;
    let id = pool.create(1).await.unwrap().ids[0];
    assert_eq!(pool.lease_once(Leasing::default(), request(1)).await.unwrap().id, id);
}

pub(super) async fn a_batch_may_be_for_several_pools<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let (a, b) = (put(&f, "a", Settings::default()).await, put(&f, "b", Settings::default()).await);
    let (of_a, of_b) = (a.create(1).await.unwrap().ids[0], b.create(1).await.unwrap().ids[0]);
    let [a, b] = ["a", "b"].map(|name| f.store().find_pool(name).unwrap());
    let lease = Operation::Lease(Leasing::default());
    let operations = [
        (a, Operation::Show(of_a)),
        (b, Operation::Show(of_a)),
        (b, lease.clone()),
        (PoolId::DEFAULT, lease.clone()),
        (a, lease.clone()),
        (PoolId { serial: 999, ..a }, lease),
        (b, Operation::Release(of_b, Release::default())),
    ];
    let outcomes = f.store().call_each(&operations).await;
    let is_ok: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(is_ok, [true, false, true, false, true, false, true]);
    assert_eq!(outcomes[1], Err(Error::NotFound));
    assert_eq!(outcomes[5], Err(Error::NoSuchPool));
}
