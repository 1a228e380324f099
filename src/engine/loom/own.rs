//! Scenarios about what keys have of their own.

use super::super::create::Creation;
use super::super::holders::HolderCursor;
use super::super::pool::Pool;
use super::checker::{
    OTHER, at, drains, exhaust, held, id, import, label_key, lease, lease_by_label,
    lease_by_label_for_holder, lease_for_holder, pool_of,
};
use crate::error::Error;
use crate::key::{Fence, Lease, State};

/// A pool with the key number 0, which has the value `a`.
fn with_value() -> Pool {
    let pool = pool_of(0);
    assert_eq!(import(&pool, 0, 0), Creation::New);
    pool
}

/// One of them creates a key, and the other one knows it.
#[test]
fn two_imports_of_one_value() {
    exhaust(
        || pool_of(0),
        &[|pool| import(pool, 0, 1), |pool| import(pool, OTHER, 1)],
        |pool, answers| {
            let is_first = answers == [Creation::New, Creation::Known(id(0))];
            assert!(is_first || answers == [Creation::Known(id(OTHER)), Creation::New]);
            drains(pool, 1, 1);
        },
    );
}

#[test]
fn an_import_and_the_deletion_of_the_key_that_has_the_value() {
    exhaust(
        with_value,
        &[
            |pool| import(pool, OTHER, 1),
            |pool| {
                pool.delete(&id(0), at(1), Fence::Any).unwrap();
                Creation::New
            },
        ],
        |pool, answers| match answers[0] {
            Creation::Known(known) => {
                assert_eq!(known, id(0));
                drains(pool, 1, 0);
            }
            _ => drains(pool, 1, 1),
        },
    );
}

/// At the time of the import the key is dead, whatever the sweep has done.
#[test]
fn an_import_and_the_sweep_of_the_key_that_had_the_value() {
    exhaust(
        with_value,
        &[
            |pool| import(pool, OTHER, 100),
            |pool| {
                pool.expire(at(100), 4);
                Creation::New
            },
        ],
        |pool, answers| {
            assert_eq!(answers[0], Creation::New);
            drains(pool, 100, 1);
        },
    );
}

/// A pool with one free key, which has the label `a:1`.
fn labeled() -> Pool {
    let pool = pool_of(0);
    assert_eq!(label_key(&pool, 0, 0), Creation::New);
    pool
}

/// By hints of different vectors.
#[test]
fn a_lease_by_label_and_a_plain_one_share_no_key() {
    exhaust(
        labeled,
        &[|pool| lease(pool, 1).is_ok(), |pool| lease_by_label(pool, 1).is_ok()],
        |pool, answers| {
            assert_eq!(answers.iter().filter(|is_leased| **is_leased).count(), 1);
            drains(pool, 1, 0);
        },
    );
}

#[test]
fn a_release_and_a_lease_by_label() {
    exhaust(
        || {
            let pool = labeled();
            lease(&pool, 0).unwrap();
            pool
        },
        &[
            |pool| pool.release(&id(0), at(1), Fence::Any, 0).is_ok(),
            |pool| lease_by_label(pool, 1).is_ok(),
        ],
        |pool, answers| {
            assert!(answers[0]);
            drains(pool, 1, usize::from(!answers[1]));
        },
    );
}

/// At the time of both threads the lease is over, so the draw finds the key, however far the sweep has come.
#[test]
fn a_lease_by_label_finds_the_key_that_a_sweep_is_freeing() {
    exhaust(
        || {
            let pool = labeled();
            lease(&pool, 0).unwrap();
            pool
        },
        &[|pool| lease_by_label(pool, 10).is_ok(), |pool| pool.expire(at(10), 4) <= 4],
        |_, answers| assert_eq!(answers, [true, true]),
    );
}

/// The label goes with the last key, and comes with the next one.
#[test]
fn a_lease_by_label_while_the_label_goes_and_comes() {
    exhaust(
        labeled,
        &[
            |pool| {
                pool.delete(&id(0), at(1), Fence::Any).unwrap();
                label_key(pool, OTHER, 1) == Creation::New
            },
            |pool| lease_by_label(pool, 1).is_ok(),
        ],
        |pool, answers| {
            assert!(answers[0]);
            // It may have leased the key that was deleted then.
            let left = usize::from(pool.get(&id(OTHER), at(1)).unwrap().state == State::Free);
            assert!(answers[1] || left == 1);
            drains(pool, 1, left);
        },
    );
}

/// A quota of one lease, and two free keys.
#[test]
fn two_leases_share_a_quota() {
    exhaust(
        || pool_of(2),
        &[|pool| lease_for_holder(pool, 1), |pool| lease_for_holder(pool, 1)],
        |pool, answers| {
            let is_refused = |answer: &&Result<Lease, Error>| **answer == Err(Error::TooManyHeld);
            assert_eq!(answers.iter().filter(is_refused).count(), 1, "{answers:?}");
            assert_eq!(held(pool), 1);
        },
    );
}

/// One of them looks for a label of which no key is free.
#[test]
fn a_search_in_vain_takes_nothing_from_a_quota() {
    exhaust(
        || {
            let pool = labeled();
            lease(&pool, 0).unwrap();
            assert!(pool.reserve(1, at(0)).unwrap().create(id(OTHER), at(0)));
            pool
        },
        &[|pool| lease_by_label_for_holder(pool, 1), |pool| lease_for_holder(pool, 1)],
        |pool, answers| {
            assert!(answers[1].is_ok() && held(pool) == 1, "{answers:?}");
            assert!(answers[0].is_err());
        },
    );
}

/// The quota is used up by a lease that is over, and that both threads may end.
#[test]
fn a_lease_that_is_over_does_not_use_up_a_quota() {
    exhaust(
        || {
            let pool = pool_of(1);
            lease_for_holder(&pool, 0).unwrap();
            pool
        },
        &[
            |pool| lease_for_holder(pool, 10).map(drop),
            |pool| {
                pool.expire(at(10), 4);
                Ok(())
            },
        ],
        |pool, answers| assert_eq!((answers[0], held(pool)), (Ok(()), 1)),
    );
}

#[test]
fn a_take_back_and_a_release() {
    exhaust(
        || {
            let pool = pool_of(1);
            lease_for_holder(&pool, 0).unwrap();
            pool
        },
        &[
            |pool| {
                let mut released = Vec::new();
                pool.release_all_of("a", at(1), 4, &mut HolderCursor::default(), &mut released);
                released.len()
            },
            |pool| usize::from(pool.release(&id(0), at(1), Fence::One(1), 0).is_ok()),
        ],
        |pool, answers| {
            assert_eq!((answers[0] + answers[1], held(pool)), (1, 0), "released twice or never");
            drains(pool, 1, 1);
        },
    );
}
