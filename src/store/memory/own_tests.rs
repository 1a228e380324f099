//! Tests of what keys have of their own, in a store with several pools.

use futures_util::FutureExt;
use tokio::task::yield_now;

use super::{Memory, Options};
use crate::engine::{Creation, NewKey};
use crate::error::Error;
use crate::key::{Fence, KeyId, Label, Leased, Value};
use crate::pool::{PoolId, Settings};
use crate::store::{Leasing, OwnKey, Release, RequestKey, Store, StoreExt};
use crate::time::{Clock, ManualClock};

/// A store whose values may have 10 bytes, and its pool `other`.
async fn with_other() -> (Memory<ManualClock>, PoolId) {
    let options = Options { value_bytes_max: 10, ..Options::default() };
    let store = Memory::new(options, ManualClock::default());
    store.put_pool("other".parse().unwrap(), Settings::default()).await.unwrap();
    let other = store.find_pool("other").unwrap();
    (store, other)
}

fn value(text: &str) -> Value {
    Value::new(text).unwrap()
}

fn import(store: &Memory<ManualClock>, pool: PoolId, text: &str) -> Result<Creation, Error> {
    let (pool, now) = (store.shared.pools.get(pool).unwrap(), store.shared.clock.now());
    let mut room = pool.keys().reserve(1, now).unwrap();
    let own = NewKey { value: Some(&value(text)), ..NewKey::default() };
    room.create_with(KeyId::random(&mut rand::rng()), now, own)
}

#[tokio::test]
async fn each_way_to_lease_gives_the_value_and_names_the_pool() {
    let (store, other) = with_other().await;
    assert_eq!(import(&store, other, "sk-1"), Ok(Creation::New));
    let pool = StoreExt::pool(&store, other);
    let check = |leased: &Leased| {
        assert_eq!((leased.pool, &leased.value), (other, &Some(value("sk-1"))));
    };
    let release = async |leased: &Leased| {
        check(leased);
        pool.release(&leased.id, Release::default()).await.unwrap();
    };
    release(&pool.lease(Leasing::default()).await.unwrap()).await;
    // In a run of leases.
    let several = pool.lease_many(Leasing::default(), 3).await.unwrap();
    assert_eq!(several.len(), 1);
    release(&several[0]).await;
    // With a request key, and once more by a retry.
    let request = Some(RequestKey { digest: [1; 16], parameters: [0; 5] });
    for _ in 0..2 {
        check(&pool.lease_once(Leasing::default(), request).await.unwrap());
    }
    // After waiting.
    let waiting = Leasing::of_any(None, 1000);
    let mut waiter = Box::pin(pool.lease(waiting));
    assert!(waiter.as_mut().now_or_never().is_none());
    let held = pool.lease_once(Leasing::default(), request).await.unwrap();
    release(&held).await;
    check(&waiter.await.unwrap());
}

#[tokio::test]
async fn the_values_of_all_pools_have_a_limit_together() {
    let (store, other) = with_other().await;
    tokio::spawn(store.clone().sweep());
    // Each pool has it once.
    for pool in [PoolId::DEFAULT, other] {
        assert_eq!(import(&store, pool, "12345"), Ok(Creation::New));
        assert!(matches!(import(&store, pool, "12345"), Ok(Creation::Known(_))));
    }
    assert_eq!(import(&store, PoolId::DEFAULT, "x"), Err(Error::ValuesFull));
    // What a pool had is free once the sweep has dropped it, on a thread of its own.
    store.delete_pool("other", true).await.unwrap();
    while import(&store, PoolId::DEFAULT, "x") != Ok(Creation::New) {
        yield_now().await;
    }
}

fn own(value: &str, labels: &[&str]) -> OwnKey {
    let labels = labels.iter().map(|text| Label::parse(text).unwrap()).collect();
    OwnKey { value: Value::new(value).unwrap(), labels }
}

/// No other import can find a value that is taken out again.
#[tokio::test]
async fn an_import_without_room_for_all_creates_none_even_for_a_moment() {
    let (store, _) = with_other().await;
    let import = async |keys: &[OwnKey]| store.import(PoolId::DEFAULT, keys).await;
    assert_eq!(import(&[own("12345", &[]), own("678901", &[])]).await, Err(Error::ValuesFull));
    let names: Vec<_> = (0..=Label::DIFFERENT_MAX).map(|n| format!("n:{n}")).collect();
    let labels: Vec<_> = names.iter().map(String::as_str).collect();
    let many: Vec<_> = labels.chunks(8).map(|labels| own("x", labels)).collect();
    assert_eq!(import(&many).await.unwrap().created, 1, "they have one value");
    let numbered = |(n, labels): (usize, &[&str])| own(&n.to_string(), labels);
    let many: Vec<_> = labels.chunks(8).enumerate().map(numbered).collect();
    assert_eq!(import(&many).await, Err(Error::TooManyLabels));
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.totals.created, stats.totals.deleted), (1, 0));
    // What was reserved for them is free again.
    assert_eq!(import(&[own("123456789", &labels[..8])]).await.unwrap().created, 1);
}

/// Others need not look at the queue until a key with a label is freed.
#[tokio::test]
async fn a_client_that_waits_for_a_label_does_not_slow_down_others() {
    let (store, _) = with_other().await;
    let pool = StoreExt::pool(&store, PoolId::DEFAULT);
    let is_quiet = || store.shared.with(PoolId::DEFAULT, |pool| pool.is_quiet()).unwrap();
    let labeled = store.import(PoolId::DEFAULT, &[own("a", &["plan:pro"])]).await.unwrap().ids[0];
    pool.create(2).await.unwrap();
    pool.lease_many(Leasing::default(), 3).await.unwrap();
    let wanted = Leasing { label: Label::parse("plan:none"), ..Leasing::of_any(None, 1000) };
    let mut waiter = Box::pin(pool.lease(wanted.clone()));
    assert!(waiter.as_mut().now_or_never().is_none());
    assert!(is_quiet());
    let other = pool.create(1).await.unwrap().ids[0];
    assert!(is_quiet(), "it has no label");
    assert_eq!(pool.lease(Leasing::default()).await.unwrap().id, other);
    pool.release(&other, Release::default()).await.unwrap();
    assert!(is_quiet());
    // Those that take any key are looked at whenever one is freed.
    let any = Leasing::of_any(None, 1000);
    pool.lease(Leasing::default()).await.unwrap();
    let mut second = Box::pin(pool.lease(any));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(!is_quiet());
    pool.release(&labeled, Release::default()).await.unwrap();
    assert_eq!(second.await.unwrap().id, labeled);
    pool.release(&labeled, Release::default()).await.unwrap();
    assert!(is_quiet(), "it was looked at once");
    // A lease that is over may be of a key with the label.
    store.shared.clock.advance_ms(Options::default().settings.lease_ttl_ms.into());
    assert!(!is_quiet());
    drop(waiter);
}

/// Room for so many keys in the default pool.
fn with_room(keys_max: usize) -> Memory<ManualClock> {
    let settings = Settings { keys_max, ..Settings::default() };
    Memory::new(Options { settings, ..Options::default() }, ManualClock::default())
}

/// Another import may have been told of its keys.
#[tokio::test]
async fn an_import_that_fails_half_way_takes_nothing_out_again() {
    let store = with_room(3);
    let known = store.import(PoolId::DEFAULT, &[own("k", &[])]).await.unwrap().ids[0];
    let keys = [own("a", &[]), own("b", &[]), own("k", &[])];
    let mut import = Box::pin(store.import(PoolId::DEFAULT, &keys));
    assert!(import.as_mut().now_or_never().is_none(), "it has only looked for what is new");
    // The known key goes, and another one takes its place.
    store.delete(&known, Fence::Any).await.unwrap();
    store.create(1).await.unwrap();
    assert!(matches!(import.await, Err(Error::Full { .. })));
    let again = store.import(PoolId::DEFAULT, &keys[..2]).await.unwrap();
    assert_eq!(again.created, 0, "they are still there");
    assert_eq!(store.stats().await.unwrap().totals.deleted, 1);
}

#[tokio::test]
async fn what_a_full_pool_has_can_be_imported_again() {
    let store = with_room(3);
    let keys: Vec<_> = ["a", "b", "c"].iter().map(|value| own(value, &[])).collect();
    assert_eq!(store.import(PoolId::DEFAULT, &keys).await.unwrap().created, 3);
    let settings = Settings { keys_max: 1, ..Settings::default() };
    store.put_pool("default".parse().unwrap(), settings).await.unwrap();
    assert_eq!(store.import(PoolId::DEFAULT, &keys).await.unwrap().created, 0);
    let more = [&keys[..], &[own("d", &[])]].concat();
    assert!(matches!(store.import(PoolId::DEFAULT, &more).await, Err(Error::Full { .. })));
}

/// A retry comes while the import is still under way, and there is room for each key once.
#[tokio::test]
async fn an_import_and_its_retry_at_once_both_succeed() {
    let keys: Vec<_> = (0..1000).map(|n| own(&n.to_string(), &[])).collect();
    let store = with_room(1000);
    let import = || store.import(PoolId::DEFAULT, &keys);
    let (first, second) = tokio::join!(import(), import());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.ids, second.ids);
    assert_eq!(first.created + second.created, 1000);
}

#[tokio::test]
async fn a_lease_that_is_over_before_it_is_given_back_is_no_stale_request() {
    let store = with_room(2);
    store.create(2).await.unwrap();
    let leases = store.lease_many(Leasing::of_any(Some(1), 0), 2).await.unwrap();
    store.shared.clock.advance_ms(1);
    // One of them is another client's by now.
    let other = store.lease(Leasing::default()).await.unwrap();
    store.give_back(leases.iter().map(|leased| leased.lease).collect());
    assert!(std::pin::pin!(store.clone().sweep()).now_or_never().is_none());
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.leased, stats.totals.stale_refusals), (1, 0));
    assert!(store.release(&other.id, Release::default()).await.is_ok());
}
