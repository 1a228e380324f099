//! Scenarios about how keys come and go.

use ::loom::sync::Arc;
use ::loom::thread;

use super::super::expiry::{Arm, ExpiryIndex};
use super::super::halves::Size;
use super::super::pool::Pool;
use super::super::settings::Settings;
use super::super::short_id::ShortId;
use super::checker::{OTHER, TTL, at, checker, drains, entries, exhaust, id, lease, pool_of};
use crate::key::{Fence, Ttl};
use crate::time::Timestamp;

#[test]
fn draw_and_delete() {
    exhaust(
        || pool_of(1),
        &[|pool| lease(pool, 1).map(drop), |pool| pool.delete(&id(0), at(1), Fence::Any)],
        |pool, answers| {
            assert_eq!(answers[1], Ok(()));
            let totals = pool.stats().totals;
            assert_eq!((totals.deleted, totals.leases), (1, u64::from(answers[0].is_ok())));
            assert_eq!(totals.leases_lost, totals.leases);
            drains(pool, 1, 0);
        },
    );
}

#[test]
fn a_draw_and_the_death_of_the_key() {
    exhaust(
        || pool_of(1),
        &[
            |pool| lease(pool, 99).map(drop),
            |pool| {
                pool.expire(at(100), 4);
                Ok(())
            },
        ],
        |pool, _| {
            drains(pool, 100, 0);
            while pool.expire(at(100), 4) > 0 {}
            let stats = pool.stats();
            assert_eq!((stats.keys, stats.totals.expired), (0, 1));
            assert_eq!(entries(pool), (0, 0));
        },
    );
}

#[test]
fn a_keep_alive_and_the_sweep_at_the_end_of_the_life() {
    exhaust(
        || pool_of(1),
        &[|pool| pool.keep_alive(&id(0), at(99)).is_ok(), |pool| pool.expire(at(100), 4) > 0],
        |pool, answers| {
            // A client whose keep-alive succeeded finds the key.
            assert_eq!(pool.get(&id(0), at(198)).is_ok(), answers[0]);
            while pool.expire(at(199), 4) > 0 {}
            assert_eq!(entries(pool).0, 0);
        },
    );
}

/// The keep-alive makes the life endless, so that its entry goes, unless the sweep was first.
#[test]
fn a_keep_alive_without_end_and_the_sweep_at_the_end_of_the_life() {
    exhaust(
        || {
            let pool = pool_of(1);
            let settings = pool.settings();
            let ttl = Ttl { key_ttl_ms: Ttl::NEVER_MS, ..settings.ttl };
            pool.configure(Settings { ttl, ..settings }, at(0));
            pool
        },
        &[|pool| pool.keep_alive(&id(0), at(99)).is_ok(), |pool| pool.expire(at(100), 4) > 0],
        |pool, answers| {
            assert_eq!(pool.get(&id(0), Timestamp::MAX).is_ok(), answers[0]);
            while pool.expire(Timestamp::MAX, 4) > 0 {}
            assert_eq!((pool.stats().keys, entries(pool).0), (u64::from(answers[0]), 0));
        },
    );
}

#[test]
fn a_key_that_was_shown_as_dead_is_not_kept_alive() {
    exhaust(
        || pool_of(1),
        &[|pool| pool.keep_alive(&id(0), at(99)).is_ok(), |pool| pool.get(&id(0), at(100)).is_ok()],
        |_, answers| assert_eq!(answers[0], answers[1], "kept alive, and shown as alive"),
    );
}

#[test]
fn a_creation_and_a_draw() {
    exhaust(
        || pool_of(0),
        &[
            |pool| pool.reserve(1, at(1)).unwrap().create(id(0), at(1)),
            |pool| lease(pool, 1).is_ok(),
        ],
        |pool, answers| drains(pool, 1, usize::from(!answers[1])),
    );
}

/// The first key of the large half makes that half.
#[test]
fn a_draw_while_the_pool_grows() {
    exhaust(
        || {
            let size = Size::Growing { shards: 2, small_max: 1 };
            let pool = Pool::with_journal(Settings::new(TTL, 4), size, ());
            assert!(pool.reserve(1, at(0)).unwrap().create(id(0), at(0)));
            pool
        },
        &[
            |pool| {
                let mut room = pool.reserve(1, at(1)).unwrap();
                room.create(room.fit(id(OTHER)), at(1))
            },
            // The key of the small half is free, whatever happens to the large one.
            |pool| lease(pool, 1).is_ok(),
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            drains(pool, 1, 1);
        },
    );
}

#[test]
fn two_keys_make_the_large_half_at_once() {
    exhaust(
        || {
            let size = Size::Growing { shards: 2, small_max: 0 };
            Pool::with_journal(Settings::new(TTL, 4), size, ())
        },
        &[
            |pool| {
                let mut room = pool.reserve(1, at(5)).unwrap();
                room.create(room.fit(id(0)), at(5))
            },
            |pool| {
                let mut room = pool.reserve(1, at(1)).unwrap();
                room.create(room.fit(id(OTHER)), at(1))
            },
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            assert_eq!(pool.next_deadline(), Some(at(101)));
            drains(pool, 5, 2);
        },
    );
}

/// A dead key takes room until it is removed, by whichever thread.
#[test]
fn a_creation_and_the_death_of_the_key_in_its_place() {
    exhaust(
        || {
            let pool = Pool::new(TTL, 1, 2);
            assert!(pool.reserve(1, at(0)).unwrap().create(id(0), at(0)));
            pool
        },
        &[
            // As the store in memory does.
            |pool| {
                let mut room = loop {
                    if let Ok(room) = pool.reserve(1, at(100)) {
                        break room;
                    }
                    if pool.expire(at(100), 4) == 0 {
                        break pool.reserve(1, at(100)).expect("the only key is dead");
                    }
                };
                room.create(id(OTHER), at(100))
            },
            |pool| pool.expire(at(100), 4) <= 4,
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            drains(pool, 100, 1);
        },
    );
}

#[test]
fn two_sweeps_at_a_death() {
    exhaust(
        || {
            let pool = pool_of(2);
            lease(&pool, 0).unwrap();
            pool
        },
        &[|pool| pool.expire(at(100), 4), |pool| pool.expire(at(100), 4)],
        |pool, _| {
            while pool.expire(at(100), 4) > 0 {}
            let stats = pool.stats();
            assert_eq!((stats.keys, stats.totals.expired), (0, 2));
            assert_eq!(entries(pool), (0, 0));
        },
    );
}

/// The two arm entries at different times in one index.
#[test]
fn two_creations() {
    exhaust(
        || pool_of(0),
        &[
            |pool| pool.reserve(1, at(5)).unwrap().create(id(0), at(5)),
            |pool| pool.reserve(1, at(1)).unwrap().create(id(OTHER), at(1)),
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            assert_eq!(pool.next_deadline(), Some(at(101)));
            drains(pool, 5, 2);
        },
    );
}

/// One entry leaves the index while another comes.
#[test]
fn a_deletion_and_a_creation() {
    exhaust(
        || pool_of(1),
        &[
            |pool| pool.delete(&id(0), at(1), Fence::Any).is_ok(),
            |pool| pool.reserve(1, at(1)).unwrap().create(id(OTHER), at(1)),
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            assert_eq!(pool.next_deadline(), Some(at(101)));
            drains(pool, 1, 1);
        },
    );
}

/// The last entry of a bucket goes, and the bucket with it, while another is added.
#[test]
fn an_entry_is_not_added_to_a_bucket_that_goes() {
    let of = |n: u8| ShortId::split(&id(n)).1;
    checker().check(move || {
        let index = Arc::new(ExpiryIndex::new(0, 1));
        let mut cursor = index.cursor();
        cursor.arm(at(1), of(0));
        let other = Arc::clone(&index);
        let goes = thread::spawn(move || other.disarm(at(1), of(0)));
        // First to the bucket that the cursor knows, and then to one that has to be found.
        cursor.arm(at(2), of(1));
        (&*index).arm(at(3), of(2));
        goes.join().unwrap();
        assert_eq!((index.first(), index.len()), (Some((at(2), of(1))), 2));
    });
}
