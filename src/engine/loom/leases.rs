//! Scenarios about the holders of keys.

use super::super::settings::Settings;
use super::checker::{LEASE_MS, at, drains, exhaust, id, lease, leased, pool_of};
use crate::key::{Fence, State};

#[test]
fn two_draws_share_no_key() {
    exhaust(
        || pool_of(1),
        &[|pool| lease(pool, 1), |pool| lease(pool, 1)],
        |_, answers| assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1),
    );
}

#[test]
fn two_draws_of_two_keys_get_one_each() {
    exhaust(
        || pool_of(2),
        &[|pool| lease(pool, 1), |pool| lease(pool, 1)],
        |_, answers| assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
    );
}

#[test]
fn release_and_draw() {
    exhaust(
        leased,
        &[
            |pool| pool.release(&id(0), at(1), Fence::OneOf(&[1]), 0),
            |pool| lease(pool, 1).map(drop),
        ],
        |pool, answers| {
            assert_eq!(answers[0], Ok(()));
            drains(pool, 1, usize::from(answers[1].is_err()));
        },
    );
}

#[test]
fn release_and_sweep_of_a_lease_that_is_over() {
    exhaust(
        leased,
        &[
            |pool| pool.release(&id(0), at(10), Fence::Any, 0),
            |pool| {
                while pool.expire(at(10), 1) > 0 {}
                Ok(())
            },
        ],
        |pool, answers| {
            assert_eq!(answers, [Ok(()), Ok(())]);
            assert_eq!(pool.stats().totals.lease_timeouts, 1);
            drains(pool, 10, 1);
        },
    );
}

/// At the time of both threads the lease is over, so the draw finds the key, however far the sweep has come.
#[test]
fn a_draw_finds_the_key_that_a_sweep_is_freeing() {
    exhaust(
        leased,
        &[
            |pool| lease(pool, 10).map(drop),
            |pool| {
                pool.expire(at(10), 4);
                Ok(())
            },
        ],
        |_, answers| assert_eq!(answers[0], Ok(())),
    );
}

#[test]
fn two_draws_find_the_two_leases_that_are_over() {
    exhaust(
        || {
            let pool = pool_of(2);
            lease(&pool, 0).and(lease(&pool, 0)).unwrap();
            pool
        },
        &[|pool| lease(pool, 10), |pool| lease(pool, 10)],
        |_, answers| assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
    );
}

#[test]
fn a_renewal_and_a_draw_at_the_end_of_the_lease() {
    exhaust(
        leased,
        &[|pool| pool.renew(&id(0), at(9), Fence::OneOf(&[1]), LEASE_MS), |pool| lease(pool, 10)],
        |_, answers| {
            assert_ne!(answers[0].is_ok(), answers[1].is_ok(), "two holders, or none: {answers:?}");
        },
    );
}

/// The first thread was delayed between reading its clock and the call. It must not revive what the second
/// has shown as over.
#[test]
fn a_lease_that_was_shown_as_over_is_not_renewed() {
    exhaust(
        leased,
        &[
            |pool| pool.renew(&id(0), at(9), Fence::One(1), LEASE_MS).is_ok(),
            |pool| pool.get(&id(0), at(10)).unwrap().generation == 1,
        ],
        |_, answers| assert_eq!(answers[0], answers[1], "renewed, and shown as alive"),
    );
}

/// A lease is not dated before the end of the one before it.
#[test]
fn a_lease_begins_after_the_one_before_it_has_ended() {
    exhaust(
        leased,
        &[
            |pool| {
                pool.release(&id(0), at(5), Fence::Any, 0).unwrap();
                at(5)
            },
            |pool| lease(pool, 4).map_or(at(5), |lease| lease.since),
        ],
        |_, answers| assert!(answers[0] <= answers[1], "{answers:?}"),
    );
}

#[test]
fn a_deletion_and_the_end_of_the_lease() {
    exhaust(
        leased,
        &[
            |pool| pool.delete(&id(0), at(10), Fence::Any).is_ok(),
            |pool| pool.expire(at(10), 4) <= 4,
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            drains(pool, 10, 0);
        },
    );
}

/// The second thread sees that the lease has lapsed, and whether a cool-down follows. Whatever the first one
/// changes then, and whatever time it has, that stays so.
#[test]
fn a_changed_cool_down_does_not_bring_back_what_is_over() {
    exhaust(
        leased,
        &[
            |pool| {
                let settings = pool.settings();
                pool.configure(Settings { lapse_cooldown_ms: 5, ..settings }, at(9));
                pool.configure(Settings { lapse_cooldown_ms: 7, ..settings }, at(10));
                [false; 2]
            },
            |pool| {
                let state = || pool.get(&id(0), at(11)).unwrap().state;
                let [first, second] = [state(), state()];
                [first == second, lease(pool, 11).is_ok() == (first == State::Free)]
            },
        ],
        |_, answers| assert_eq!(answers[1], [true; 2]),
    );
}

#[test]
fn a_lease_that_lapses_and_a_draw() {
    exhaust(
        || {
            let pool = leased();
            let settings = pool.settings();
            pool.configure(Settings { lapse_cooldown_ms: 5, ..settings }, at(0));
            pool
        },
        &[|pool| lease(pool, 10).is_ok(), |pool| pool.expire(at(10), 4) <= 4],
        |pool, answers| {
            assert_eq!(answers, [false, true]);
            drains(pool, 14, 0);
            drains(pool, 15, 1);
        },
    );
}

#[test]
fn three_at_once_on_one_key() {
    exhaust(
        leased,
        &[
            |pool| pool.release(&id(0), at(10), Fence::OneOf(&[1]), 0).is_ok(),
            |pool| pool.expire(at(10), 1) > 0,
            |pool| lease(pool, 10).is_ok(),
        ],
        |pool, answers| {
            assert!(answers[2], "the key is free for any client");
            drains(pool, 19, 0);
            drains(pool, 20, 1);
        },
    );
}
