//! Several servers with the same pools.

use std::collections::HashMap;
use std::sync::Arc;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Holder, KeyId, Quota};
use token_orchestrator::pool::{PoolId, Settings};
use token_orchestrator::store::{Leasing, Options, Release, RequestKey, Store, StoreExt};
use tokio::time::{Duration, timeout};

use super::Fixture;
use super::remote::Remote;

const WAIT: Leasing = Leasing::of_any(None, 10_000);
/// Longer than anything takes that is told, and shorter than anything that is asked for at intervals.
const SOON: Duration = Duration::from_secs(10);

/// Those that wait at one server hear of a key that is freed at another one: nothing here moves the time.
pub(super) async fn a_key_that_is_freed_at_one_server_wakes_those_at_another<const C: bool>() {
    let f = Remote::<C>::make(Options::default()).await;
    let other = Arc::new(f.other().await);
    let id = f.create().await;
    for round in 0..20 {
        let lease = f.lease().await;
        let waiter = tokio::spawn({
            let other = Arc::clone(&other);
            async move { other.lease(WAIT).await }
        });
        while other.stats().await.unwrap().waiting == 0 {}
        if round % 2 == 0 {
            f.store().release(&id, Release::default()).await.unwrap();
        } else {
            f.store().give_back(vec![lease]);
        }
        let leased = timeout(SOON, waiter).await.expect("it is told").unwrap().unwrap();
        assert_eq!(leased.id, id);
        assert!(leased.generation > lease.generation);
        f.store().release(&id, Release::default()).await.unwrap();
    }
    f.lease().await;
    let waiter = tokio::spawn({
        let other = Arc::clone(&other);
        async move { other.lease_many(WAIT, 2).await }
    });
    while other.stats().await.unwrap().waiting == 0 {}
    let ids = f.store().create(1).await.unwrap().ids;
    let leases = timeout(SOON, waiter).await.expect("it is told").unwrap().unwrap();
    assert_eq!(leases[0].id, ids[0]);
}

pub(super) async fn no_key_is_leased_at_two_servers<const C: bool>() {
    let f = Remote::<C>::make(Options::default()).await;
    let other = f.other().await;
    f.store().create(100).await.unwrap();
    let (here, there) = tokio::join!(
        f.store().lease_many(Leasing::default(), 100),
        other.lease_many(Leasing::default(), 100)
    );
    let ids =
        |leases: Result<Vec<token_orchestrator::key::Leased>, Error>| leases.unwrap_or_default();
    let mut all: Vec<_> = ids(here).into_iter().chain(ids(there)).map(|lease| lease.id).collect();
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!((count, all.len()), (100, 100));
}

/// Also where most free keys are in one shard, whichever server is asked, and with a request key.
pub(super) async fn each_free_key_is_as_likely_as_any_other<const C: bool>() {
    const DRAWS: u32 = 1500;
    const AT_ONCE: u32 = 8;
    const ONCE: u32 = 4;
    let f = Remote::<C>::make(Options::default()).await;
    let other = f.other().await;
    let shard_of = |id: &KeyId| {
        let two = |two: &[u8]| u16::from_be_bytes([two[0], two[1]]);
        id.as_bytes().chunks_exact(2).map(two).fold(0, |folded, two| folded ^ two) % 4
    };
    let mut left = [1, 5, 25, 125];
    let mut counts = HashMap::new();
    while left != [0; 4] {
        for id in f.store().create(100).await.unwrap().ids {
            let left = &mut left[usize::from(shard_of(&id))];
            if *left == 0 {
                f.store().delete(&id, Fence::Any).await.unwrap();
            } else {
                *left -= 1;
                counts.insert(id, [0_u32; 2]);
            }
        }
    }
    for draw in 0..DRAWS {
        let store = if draw % 2 == 0 { f.store() } else { &other };
        for leased in store.lease_many(Leasing::default(), AT_ONCE as usize).await.unwrap() {
            counts.get_mut(&leased.id).unwrap()[0] += 1;
            store.release(&leased.id, Release::default()).await.unwrap();
        }
        for _ in 0..ONCE {
            let request = RequestKey { digest: rand::random(), parameters: [0; 5] };
            let leased = store.lease_once(Leasing::default(), Some(request)).await.unwrap();
            counts.get_mut(&leased.id).unwrap()[1] += 1;
            store.release(&leased.id, Release::default()).await.unwrap();
        }
    }
    let keys = f64::from(u32::try_from(counts.len()).unwrap());
    for (way, each) in [AT_ONCE, ONCE].into_iter().enumerate() {
        let expected = f64::from(DRAWS * each) / keys;
        let far = |count: u32| (f64::from(count) - expected).powi(2) / expected;
        let (chi_squared, freedom) =
            (counts.values().map(|counts| far(counts[way])).sum::<f64>(), keys - 1.0);
        // Six standard deviations.
        let most = freedom + 6.0 * (2.0 * freedom).sqrt();
        assert!(chi_squared < most, "{way}: {chi_squared}: {counts:?}");
    }
}

pub(super) async fn a_retry_at_another_server_gets_the_same_lease<const C: bool>() {
    let f = Remote::<C>::make(Options::default()).await;
    let other = f.other().await;
    f.store().create(100).await.unwrap();
    // The first one looks at all shards. The others get a key in one call, mostly.
    for number in 0..20 {
        let request = RequestKey { digest: [number; 16], parameters: [1, 2, 3, 4, 5] };
        let first = f.store().lease_once(Leasing::default(), Some(request)).await.unwrap();
        assert_eq!(other.lease_once(Leasing::default(), Some(request)).await, Ok(first.clone()));
        let reused = RequestKey { parameters: [0; 5], ..request };
        let outcome = other.lease_once(Leasing::default(), Some(reused)).await;
        assert_eq!(outcome, Err(Error::RequestReused));
        other.release(&first.id, Release::default()).await.unwrap();
        let next = f.store().lease_once(Leasing::default(), Some(request)).await.unwrap();
        assert!((next.id, next.generation) != (first.id, first.generation));
    }
}

pub(super) async fn limits_are_for_all_servers<const C: bool>() {
    let settings = Settings { keys_max: 10, ..Settings::default() };
    let f = Remote::<C>::make(Options { settings, ..Options::default() }).await;
    let other = f.other().await;
    f.store().create(6).await.unwrap();
    assert!(matches!(other.create(5).await, Err(Error::Full { .. })));
    other.create(4).await.unwrap();
    assert!(matches!(f.store().create(1).await, Err(Error::Full { .. })));
    // Each has the quota of a token in a file of its own.
    let leasing = || {
        let quota = Arc::new(Quota::new(2).named("a"));
        Leasing { holder: Holder::new("a", Some(quota)), ..Leasing::default() }
    };
    let first = f.store().lease(leasing()).await.unwrap();
    other.lease(leasing()).await.unwrap();
    assert_eq!(other.lease(leasing()).await, Err(Error::TooManyHeld));
    assert_eq!(f.store().lease(leasing()).await, Err(Error::TooManyHeld));
    // Taken back at one, it counts at none.
    other.release(&first.id, Release::default()).await.unwrap();
    f.store().lease(leasing()).await.unwrap();
    assert_eq!(other.take_back_from(PoolId::DEFAULT, "a").await, Ok(2));
}

pub(super) async fn pools_are_those_of_all_servers<const C: bool>() {
    let f = Remote::<C>::make(Options::default()).await;
    let other = f.other().await;
    let settings = Settings { lease_ttl_ms: 7, ..Settings::default() };
    assert_eq!(f.store().put_pool("p".parse().unwrap(), settings).await, Ok(true));
    // Others learn of it within a second, or when they are asked for the list.
    assert_eq!(other.list_pools(None, 9).await.unwrap().len(), 2);
    let pool = other.find_pool("p").unwrap();
    assert_eq!(other.settings_of(pool), Some(settings));
    let id = other.pool(pool).create(1).await.unwrap().ids[0];
    assert!(f.store().pool(pool).get(&id).await.is_ok());
    assert_eq!(other.delete_pool("p", false).await, Err(Error::PoolNotEmpty));
    assert_eq!(other.delete_pool("p", true).await, Ok(()));
    assert_eq!(f.store().pool(pool).get(&id).await, Err(Error::NoSuchPool));
    assert_eq!(f.store().find_pool("p"), None);
}
