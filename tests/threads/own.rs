//! Races about what keys have of their own.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rand::RngExt;
use token_orchestrator::engine::{
    Creation, HolderCursor, NewKey, OwnOptions, Pool, Terms, ValueBytes,
};
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Holder, KeyId, Label, Quota, Ttl, Value};
use token_orchestrator::time::Timestamp;

use super::{THREADS, create, on_threads};

/// Keys with few values come, are leased, are deleted and die, and values are imported again at once. Time
/// moves between rounds only.
#[test]
fn racing_imports_create_one_key_for_each_value() {
    let value_bytes = Arc::new(ValueBytes::new(100));
    let own = OwnOptions {
        secret: [7; 16],
        value_bytes: Arc::clone(&value_bytes),
        ..OwnOptions::default()
    };
    let pool = Pool::new(Ttl { key_ttl_ms: 3, lease_ttl_ms: 1 }, 1000, 4).with_own(own);
    let values = ["a", "bb", "ccc"].map(|text| Value::new(text).unwrap());
    // Which value each key was created with.
    let created = Mutex::new(HashMap::new());
    for ms in 0..200 {
        let now = Timestamp::from_ms(ms);
        let seen = Mutex::new(Vec::new());
        on_threads(|mut rng| {
            for _ in 0..100 {
                let number = rng.random_range(0..values.len());
                let value = &values[number];
                let id = KeyId::random(&mut rand::rng());
                let mut room = pool.reserve(1, now).unwrap();
                let key = match room
                    .create_with(id, now, NewKey { value: Some(value), labels: &[] })
                    .unwrap()
                {
                    Creation::New => {
                        created.lock().unwrap().insert(id, number);
                        id
                    }
                    Creation::Known(known) => {
                        seen.lock().unwrap().push((known, number));
                        known
                    }
                    Creation::IdTaken => panic!("a random id was taken"),
                };
                match rng.random_range(0..4) {
                    0 => drop(pool.delete(&key, now, Fence::Any)),
                    1 => drop(pool.expire(now, 2)),
                    2 => match pool.lease(now, 1, &mut rng) {
                        Ok(leased) => assert!(values.contains(&leased.value.unwrap())),
                        Err(error) => assert_eq!(error, Error::EXHAUSTED),
                    },
                    _ => {}
                }
            }
        });
        pool.check_invariants();
        let created = created.lock().unwrap();
        for (id, number) in seen.into_inner().unwrap() {
            assert_eq!(created.get(&id), Some(&number), "the key has another value");
        }
        let living = pool.ids().into_iter().filter(|id| pool.get(id, now).is_ok());
        let living: Vec<_> = living.map(|id| created[&id]).collect();
        assert_eq!(living.len(), living.iter().collect::<HashSet<_>>().len(), "a value twice");
    }
    assert!(created.lock().unwrap().len() > 1000, "too few deletions");
    while pool.expire(Timestamp::MAX, 8) > 0 {}
    pool.check_invariants();
    assert_eq!(value_bytes.held(), 0);
}

/// A third of the threads leases any key, the others by one of two labels. Each kind finds a key at any moment, and
/// no key has two holders.
#[test]
fn racing_leases_by_label_and_plain_ones_share_no_key() {
    let now = Timestamp::from_ms(5);
    let pool = Pool::new(Ttl::default(), 100, 4);
    let labels = ["a:1", "b:2"].map(|text| Label::parse(text).unwrap());
    // As many keys with each label as there are threads, most of them with both.
    for labels in [&labels[..], &labels[..1], &labels[1..]] {
        let count = if labels.len() == 2 { THREADS - 1 } else { 1 };
        for _ in 0..count {
            let (id, own) = (KeyId::random(&mut rand::rng()), NewKey { value: None, labels });
            let created = pool.reserve(1, now).unwrap().create_with(id, now, own);
            assert_eq!(created, Ok(Creation::New));
        }
    }
    let holders = Mutex::new(HashSet::new());
    on_threads(|mut rng| {
        for _ in 0..20_000 {
            let label = labels.get(rng.random_range(0..3));
            let terms = Terms { label, ..Terms::from(60_000) };
            let lease = pool.lease(now, terms, &mut rng).expect("one is free at any moment");
            assert!(holders.lock().unwrap().insert(lease.id), "two holders");
            if let Some(label) = label {
                assert!(
                    pool.get(&lease.id, now).unwrap().labels().contains(label),
                    "another label"
                );
            }
            assert!(holders.lock().unwrap().remove(&lease.id));
            pool.release(&lease.id, now, Fence::Any, 0).unwrap();
        }
    });
    pool.check_invariants();
    assert_eq!(pool.stats().free, THREADS + 1, "a key was lost");
}

/// Holders that share a quota lease and release, others take their leases back, and leases run out. Time moves
/// between rounds only.
#[test]
fn racing_holders_never_exceed_their_quota() {
    const LEASE_MS: u32 = 3;
    let pool = Pool::new(Ttl { key_ttl_ms: 50, lease_ttl_ms: LEASE_MS }, 1000, 4);
    let quota = Arc::new(Quota::new(4));
    let names = ["a", "b"];
    let holders = names.map(|name| Holder::new(name, Some(Arc::clone(&quota))).unwrap());
    let refusals = AtomicUsize::new(0);
    for ms in 0..300 {
        let now = Timestamp::from_ms(ms);
        if ms % 20 == 0 {
            create(&pool, 20, now);
        }
        on_threads(|mut rng| {
            let mut leases = Vec::new();
            for _ in 0..50 {
                let holder = rng.random_range(0..2);
                let terms = Terms { holder: Some(&holders[holder]), ..Terms::from(LEASE_MS) };
                match rng.random_range(0..8) {
                    0..4 => match pool.lease(now, terms, &mut rng) {
                        Ok(lease) => leases.push(lease),
                        Err(error) => {
                            assert_eq!(error, Error::TooManyHeld);
                            refusals.fetch_add(1, Relaxed);
                        }
                    },
                    4 => pool.lease_group(now, terms, &mut rng, 3, &mut leases),
                    5 => {
                        let (name, mut cursor) = (names[holder], HolderCursor::default());
                        pool.release_all_of(name, now, 3, &mut cursor, &mut Vec::new());
                    }
                    6 => drop(pool.expire(now, 3)),
                    _ => {
                        if let Some(lease) = leases.pop() {
                            let fence = Fence::One(lease.generation);
                            let _ = pool.release(&lease.id, now, fence, 0);
                        }
                    }
                }
                assert!(quota.held() <= 4, "{} leases", quota.held());
            }
        });
        pool.check_invariants();
        let is_held = |id: &KeyId| pool.get(id, now).is_ok_and(|info| info.holder().is_some());
        let held = pool.ids().iter().filter(|id| is_held(id)).count();
        assert!(held <= quota.held(), "{held} leases last, and {} count", quota.held());
    }
    assert!(refusals.into_inner() > 1000, "too few refusals");
    while pool.expire(Timestamp::MAX, 8) > 0 {}
    assert_eq!(quota.held(), 0);
}
