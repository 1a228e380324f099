//! Tests of what keys have of their own.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::create::{Creation, NewKey};
use super::lease::Terms;
use super::pool::{OwnOptions, Pool};
use super::values::ValueBytes;
use crate::error::Error;
use crate::key::{Fence, KeyId, Label, Ttl, Value};
use crate::time::Timestamp;

const LEASE_MS: u32 = 60_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(12)
}

/// A pool whose values may have so many bytes together with those of others.
fn pool(value_bytes: &Arc<ValueBytes>) -> Pool {
    let own = OwnOptions {
        secret: [7; 16],
        value_bytes: Arc::clone(value_bytes),
        ..OwnOptions::default()
    };
    Pool::new(Ttl::default(), 1000, 2).with_own(own)
}

fn value(text: &str) -> Value {
    Value::new(text).unwrap()
}

fn import(pool: &Pool, text: &str, now: Timestamp, rng: &mut StdRng) -> Result<Creation, Error> {
    let mut room = pool.reserve(1, now).unwrap();
    let own = NewKey { value: Some(&value(text)), ..NewKey::default() };
    room.create_with(KeyId::from_random_bytes(rng.random()), now, own)
}

/// The key that has this value, which must be known.
fn known(pool: &Pool, text: &str, now: Timestamp) -> KeyId {
    match import(pool, text, now, &mut rng()) {
        Ok(Creation::Known(id)) => id,
        other => panic!("{text} is not known: {other:?}"),
    }
}

#[test]
fn a_lease_gives_the_value_and_a_look_does_not() {
    let (mut rng, bytes) = (rng(), Arc::new(ValueBytes::new(100)));
    let pool = pool(&bytes);
    assert_eq!(import(&pool, "sk-1", at(0), &mut rng), Ok(Creation::New));
    let leased = pool.lease(at(1), LEASE_MS, &mut rng).unwrap();
    assert_eq!(leased.value, Some(value("sk-1")));
    assert_eq!(pool.lasting(&leased.id, leased.generation, at(2)), Some(leased.clone()));
    assert_eq!(pool.lasting(&leased.id, leased.generation, leased.until), None);
    let shown = format!("{:?} {leased:?}", pool.get(&leased.id, at(1)));
    assert!(!shown.contains("sk-1"), "{shown}");
    pool.release(&leased.id, at(2), Fence::Any, 0).unwrap();
    let mut group = Vec::new();
    pool.lease_group(at(3), LEASE_MS, &mut rng, 3, &mut group);
    assert_eq!(group.iter().map(|leased| leased.value.clone()).collect::<Vec<_>>(), [leased.value]);
    // A generated key has none.
    assert!(pool.reserve(1, at(3)).unwrap().create(KeyId::from_random_bytes(rng.random()), at(3)));
    assert_eq!(pool.lease(at(3), LEASE_MS, &mut rng).unwrap().value, None);
    pool.check_invariants();
}

#[test]
fn a_pool_has_a_value_once_as_long_as_its_key_lives() {
    let (mut rng, bytes) = (rng(), Arc::new(ValueBytes::new(100)));
    let pool = pool(&bytes);
    assert_eq!(import(&pool, "a", at(0), &mut rng), Ok(Creation::New));
    let id = known(&pool, "a", at(1));
    assert_eq!((pool.stats().keys, pool.get(&id, at(1)).unwrap().created_at), (1, at(0)));
    assert_eq!(import(&pool, "b", at(1), &mut rng), Ok(Creation::New));
    pool.delete(&id, at(2), Fence::Any).unwrap();
    assert_eq!(import(&pool, "a", at(2), &mut rng), Ok(Creation::New));
    let next = known(&pool, "a", at(300_001));
    assert_ne!(next, id);
    // It is dead at that time, though nothing has removed it yet.
    assert_eq!(import(&pool, "a", at(300_002), &mut rng), Ok(Creation::New));
    assert_ne!(known(&pool, "a", at(300_002)), next);
    pool.check_invariants();
    while pool.expire(Timestamp::MAX, 8) > 0 {}
    assert_eq!((pool.stats().keys, bytes.held()), (0, 0));
    pool.check_invariants();
}

#[test]
fn the_values_of_several_pools_have_a_limit_together() {
    let (mut rng, bytes) = (rng(), Arc::new(ValueBytes::new(10)));
    let (one, other) = (pool(&bytes), pool(&bytes));
    assert_eq!(import(&one, "12345", at(0), &mut rng), Ok(Creation::New));
    assert_eq!(import(&other, "12345", at(0), &mut rng), Ok(Creation::New));
    assert_eq!((bytes.held(), bytes.max()), (10, 10));
    assert_eq!(import(&one, "x", at(0), &mut rng), Err(Error::ValuesFull));
    // What is known takes no room.
    known(&one, "12345", at(0));
    one.check_invariants();
    assert_eq!(one.stats().keys, 1);
    drop(other);
    assert_eq!(bytes.held(), 5);
    assert_eq!(import(&one, "x", at(0), &mut rng), Ok(Creation::New));
    one.delete(&known(&one, "12345", at(0)), at(0), Fence::Any).unwrap();
    assert_eq!(bytes.held(), 1);
}

#[test]
fn a_creation_whose_id_is_taken_leaves_no_value_behind() {
    let (mut rng, bytes) = (rng(), Arc::new(ValueBytes::new(10)));
    let pool = pool(&bytes);
    let id = KeyId::from_random_bytes([1; 16]);
    let mut room = pool.reserve(2, at(0)).unwrap();
    assert!(room.create(id, at(0)));
    let own = NewKey { value: Some(&value("a")), ..NewKey::default() };
    assert_eq!(room.create_with(id, at(0), own), Ok(Creation::IdTaken));
    drop(room);
    assert_eq!(bytes.held(), 0);
    pool.check_invariants();
    assert_eq!(import(&pool, "a", at(0), &mut rng), Ok(Creation::New));
}

#[test]
fn what_keys_have_of_their_own_gives_its_memory_back() {
    let (mut rng, bytes) = (rng(), Arc::new(ValueBytes::new(usize::MAX)));
    let own =
        OwnOptions { secret: [7; 16], value_bytes: Arc::clone(&bytes), ..OwnOptions::default() };
    let pool = Pool::new(Ttl::default(), 20_000, 2).with_own(own);
    for n in 0..20_000 {
        assert_eq!(import(&pool, &format!("sk-{n}"), at(0), &mut rng), Ok(Creation::New));
    }
    for id in &pool.ids()[10..] {
        pool.delete(id, at(0), Fence::Any).unwrap();
    }
    pool.check_invariants();
    let mut capacity = 0;
    pool.records.each_shard(|shard| {
        capacity += shard.own().as_ref().map_or(0, |own| own.values.capacity());
    });
    assert!((10..1000).contains(&capacity), "room for {capacity} values");
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

/// Creates a key with these labels.
fn create(pool: &Pool, labels: &[&str], now: Timestamp, rng: &mut StdRng) -> Result<KeyId, Error> {
    let labels: Vec<_> = labels.iter().copied().map(label).collect();
    let id = KeyId::from_random_bytes(rng.random());
    let own = NewKey { labels: &labels, ..NewKey::default() };
    assert_eq!(pool.reserve(1, now).unwrap().create_with(id, now, own)?, Creation::New);
    Ok(id)
}

fn lease(pool: &Pool, text: &str, now: Timestamp, rng: &mut StdRng) -> Result<KeyId, Error> {
    let terms = Terms { label: Some(&label(text)), ..Terms::from(LEASE_MS) };
    pool.lease(now, terms, rng).map(|leased| leased.id)
}

#[test]
fn a_lease_chooses_among_the_keys_with_a_label() {
    let mut rng = rng();
    let pool = Pool::new(Ttl::default(), 1000, 2);
    for _ in 0..10 {
        create(&pool, &[], at(0), &mut rng).unwrap();
    }
    let id = create(&pool, &["plan:pro", "plan:pro", "region:eu"], at(0), &mut rng).unwrap();
    let shown = pool.get(&id, at(0)).unwrap();
    assert_eq!(shown.labels(), [label("plan:pro"), label("region:eu")], "each label once");
    assert_eq!(lease(&pool, "plan:free", at(1), &mut rng), Err(Error::EXHAUSTED));
    assert_eq!(lease(&pool, "region:eu", at(1), &mut rng), Ok(id));
    pool.check_invariants();
    assert_eq!(lease(&pool, "plan:pro", at(1), &mut rng), Err(Error::EXHAUSTED));
    assert_eq!(lease(&pool, "plan:pro", at(LEASE_MS.into()), &mut rng), Err(Error::EXHAUSTED));
    // No sweep has run, and the lease is over.
    assert_eq!(lease(&pool, "plan:pro", at(1 + u64::from(LEASE_MS)), &mut rng), Ok(id));
    pool.delete(&id, at(1), Fence::Any).unwrap();
    assert_eq!(lease(&pool, "region:eu", at(1), &mut rng), Err(Error::EXHAUSTED));
    assert_eq!(pool.stats().free, 10);
    pool.check_invariants();
}

#[test]
fn a_label_that_no_key_has_leaves_nothing_behind() {
    let (mut rng, labels_max) = (rng(), 2);
    let own = OwnOptions { labels_max, ..OwnOptions::default() };
    let pool = Pool::new(Ttl::default(), 1000, 2).with_own(own);
    let id = create(&pool, &["a:1", "a:2"], at(0), &mut rng).unwrap();
    assert_eq!(create(&pool, &["a:1", "a:3"], at(0), &mut rng), Err(Error::TooManyLabels));
    create(&pool, &["a:2"], at(0), &mut rng).unwrap();
    pool.check_invariants();
    pool.delete(&id, at(0), Fence::Any).unwrap();
    create(&pool, &["a:3"], at(0), &mut rng).unwrap();
    while pool.expire(Timestamp::MAX, 8) > 0 {}
    assert!(pool.labels.all().is_empty());
    pool.check_invariants();
}

#[test]
fn pushes_tell_whether_a_key_with_the_label_became_free() {
    let mut rng = rng();
    let pool = Pool::new(Ttl::default(), 1000, 2);
    let looks = |pool: &Pool| pool.pushes(&label("a:1"));
    let before = looks(&pool);
    create(&pool, &["a:2"], at(0), &mut rng).unwrap();
    assert_eq!(looks(&pool), before);
    let id = create(&pool, &["a:1"], at(0), &mut rng).unwrap();
    let created = looks(&pool);
    assert_ne!(created, before);
    lease(&pool, "a:1", at(0), &mut rng).unwrap();
    assert_eq!(looks(&pool), created);
    pool.release(&id, at(0), Fence::Any, 0).unwrap();
    assert_ne!(looks(&pool), created);
    // The label goes and comes again.
    pool.delete(&id, at(0), Fence::Any).unwrap();
    create(&pool, &["a:1"], at(0), &mut rng).unwrap();
    assert_ne!(looks(&pool), created);
}

/// Each lease of one kind makes hints of the other kind stale.
#[test]
fn stale_hints_of_other_vectors_are_dropped() {
    let mut rng = rng();
    let pool = Pool::new(Ttl::default(), 1000, 2);
    for _ in 0..100 {
        create(&pool, &["a:1", "b:2"], at(0), &mut rng).unwrap();
    }
    for is_by_label in [false, true, false] {
        for _ in 0..2000 {
            let id = if is_by_label {
                lease(&pool, "a:1", at(0), &mut rng).unwrap()
            } else {
                pool.lease(at(0), LEASE_MS, &mut rng).unwrap().id
            };
            pool.release(&id, at(0), Fence::Any, 0).unwrap();
        }
        pool.check_invariants();
    }
    let hints: u64 = pool.labels.all().iter().map(|(_, labeled)| labeled.free.len()).sum();
    assert!(hints <= 2 * (300 + 8 * 33), "{hints}");
}
