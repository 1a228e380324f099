//! Importing keys with values.

use std::collections::HashMap;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Label, State};
use token_orchestrator::pool::{PoolId, Settings};
use token_orchestrator::store::{Imported, Leasing, Options, OwnKey, RequestKey, Store, StoreExt};

use super::super::{Fixture, LIFE_MS};
use super::{assert_exhausted, by_label, numbered, own, plain, put, value};

async fn import<F: Fixture>(f: &F, keys: &[OwnKey]) -> Result<Imported, Error> {
    f.store().import(PoolId::DEFAULT, keys).await
}

async fn keys<F: Fixture>(f: &F) -> u64 {
    f.store().stats().await.unwrap().keys
}

pub(in super::super) async fn an_import_can_be_repeated<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let first = import(&f, &plain(&["a", "b", "a"])).await.unwrap();
    assert_eq!(first.ids[0], first.ids[2]);
    assert_ne!(first.ids[0], first.ids[1]);
    assert_eq!((first.created, first.life_ends), (2, f.now().plus_ms(LIFE_MS)));
    let created_at = f.now();
    f.advance(1000).await;
    // What the pool has stays as it is, leased or not.
    let leased = f.store().lease(Leasing::default()).await.unwrap();
    let second = import(&f, &[own("b", &["plan:pro"]), own("c", &[])]).await.unwrap();
    assert_eq!((second.ids[0], second.created), (first.ids[1], 1));
    assert_eq!(second.life_ends, f.now().plus_ms(LIFE_MS));
    let shown = f.store().get(&first.ids[1]).await.unwrap();
    assert_eq!((shown.created_at, shown.labels()), (created_at, &[][..]));
    assert!(matches!(f.store().get(&leased.id).await.unwrap().state, State::Leased(_)));
    let third = import(&f, &plain(&["c", "b", "a"])).await.unwrap();
    assert_eq!(third.ids, [second.ids[1], first.ids[1], first.ids[0]]);
    assert_eq!((third.created, keys(&f).await), (0, 3));
    // A value whose key has gone is new.
    f.store().delete(&first.ids[1], Fence::Any).await.unwrap();
    let fourth = import(&f, &plain(&["b"])).await.unwrap();
    assert_ne!(fourth.ids[0], first.ids[1]);
    assert_eq!(fourth.created, 1);
    // So is one whose key is dead, even if nothing has noticed it.
    f.advance(LIFE_MS - 1000).await;
    let fifth = import(&f, &plain(&["a", "b"])).await.unwrap();
    assert_ne!(fifth.ids[0], first.ids[0]);
    assert_eq!((fifth.ids[1], fifth.created), (fourth.ids[0], 1));
    assert_eq!(f.store().get(&first.ids[0]).await, Err(Error::NotFound));
}

pub(in super::super) async fn ids_come_in_the_order_of_their_values<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let mut keys = numbered(1000);
    import(&f, &keys[100..600]).await.unwrap();
    keys.extend_from_within(300..400);
    let imported = import(&f, &keys).await.unwrap();
    assert_eq!((imported.ids.len(), imported.created), (1100, 500));
    assert_eq!(imported.ids[1000..], imported.ids[300..400]);
    let leases = f.store().lease_many(Leasing::default(), 2000).await.unwrap();
    let values: HashMap<_, _> = leases.iter().map(|leased| (leased.id, value(leased))).collect();
    assert_eq!(values.len(), 1000);
    for (id, key) in imported.ids.iter().zip(&keys) {
        assert_eq!(values[id], key.value.reveal());
    }
}

pub(in super::super) async fn an_import_has_room_for_all_or_none<F: Fixture>() {
    let settings = Settings { keys_max: 3, ..Settings::default() };
    let f = F::make(Options { settings, ..Options::default() }).await;
    let full = |outcome| assert!(matches!(outcome, Err(Error::Full { .. })), "{outcome:?}");
    full(import(&f, &plain(&["a", "b", "c", "d"])).await);
    assert_eq!(keys(&f).await, 0);
    f.assert_exhausted().await;
    import(&f, &plain(&["a", "b"])).await.unwrap();
    full(import(&f, &plain(&["x", "a", "y"])).await);
    assert_eq!(keys(&f).await, 2);
    // It is not there, and what comes twice or is known takes no room.
    let third = import(&f, &plain(&["x", "a", "x", "b", "x"])).await.unwrap();
    assert_eq!((third.created, keys(&f).await), (1, 3));
    assert_eq!(import(&f, &plain(&["x", "b", "a"])).await.unwrap().created, 0);
    full(import(&f, &plain(&["x", "b", "y"])).await);
    // Dead keys make room.
    f.advance(LIFE_MS).await;
    let after = import(&f, &plain(&["b", "p", "q"])).await.unwrap();
    assert_eq!(after.created, 3);
    f.settle().await;
    assert_eq!(keys(&f).await, 3);
}

pub(in super::super) async fn values_have_room_for_all_or_none<F: Fixture>() {
    let f = F::make(Options { value_bytes_max: 1000, ..Options::default() }).await;
    let other = put(&f, "other").await;
    // Each has 10 bytes, and all but the last one fit.
    let mut many: Vec<_> = (0..101).map(|n| own(&format!("sk-{n:07}"), &[])).collect();
    for _ in 0..3 {
        assert_eq!(import(&f, &many).await, Err(Error::ValuesFull));
        assert_eq!(keys(&f).await, 0);
        f.assert_exhausted().await;
    }
    let last = [many.pop().unwrap()];
    import(&f, &many).await.unwrap();
    assert_eq!(import(&f, &many).await.unwrap().created, 0);
    assert_eq!(import(&f, &last).await, Err(Error::ValuesFull));
    assert_eq!(f.store().import(other.place().1, &last).await, Err(Error::ValuesFull));
    assert_eq!(keys(&f).await, 100);
    // A generated key takes none of their room, and a key that goes gives its part back.
    let id = f.create().await;
    f.store().delete(&id, Fence::Any).await.unwrap();
    assert_eq!(import(&f, &last).await, Err(Error::ValuesFull));
    let leased = f.store().lease(Leasing::default()).await.unwrap();
    f.store().delete(&leased.id, Fence::Any).await.unwrap();
    f.store().import(other.place().1, &last).await.unwrap();
    // Those that die do so as well.
    f.advance(LIFE_MS).await;
    f.settle().await;
    assert_eq!(import(&f, &many).await.unwrap().created, 100);
}

pub(in super::super) async fn labels_have_room_for_all_or_none<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let with_label = |n: usize| own(&format!("sk-{n}"), &[&format!("n:{n}")]);
    let many: Vec<_> = (0..=Label::DIFFERENT_MAX).map(with_label).collect();
    for _ in 0..2 {
        assert_eq!(import(&f, &many).await, Err(Error::TooManyLabels));
        assert_eq!(keys(&f).await, 0);
    }
    let (last, fitting) = many.split_last().unwrap();
    import(&f, fitting).await.unwrap();
    assert_eq!(import(&f, std::slice::from_ref(last)).await, Err(Error::TooManyLabels));
    // A label that a key has is none more.
    import(&f, &[own("other", &["n:7", "n:8"])]).await.unwrap();
    let leased = f.store().lease(by_label("n:9", 0)).await.unwrap();
    f.store().delete(&leased.id, Fence::Any).await.unwrap();
    import(&f, std::slice::from_ref(last)).await.unwrap();
    assert_exhausted(&f.store().lease(by_label("n:9", 0)).await);
}

pub(in super::super) async fn each_pool_has_values_of_its_own<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let (a, b) = (put(&f, "a").await, put(&f, "b").await);
    let mut ids = Vec::new();
    for pool in [a, b, f.store().pool(PoolId::DEFAULT)] {
        let imported = f.store().import(pool.place().1, &[own("sk", &["p:q"])]).await.unwrap();
        assert_eq!(imported.created, 1);
        ids.push(imported.ids[0]);
        assert_eq!(value(&pool.lease(by_label("p:q", 0)).await.unwrap()), "sk");
        assert_exhausted(&pool.lease(by_label("p:q", 0)).await);
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    // With a pool, its values go.
    f.store().delete_pool("a", true).await.unwrap();
    let gone = a.place().1;
    assert_eq!(f.store().import(gone, &plain(&["x"])).await, Err(Error::NoSuchPool));
    let a = put(&f, "a").await;
    let imported = f.store().import(a.place().1, &plain(&["sk"])).await.unwrap();
    assert_eq!((imported.created, imported.ids[0] == ids[0]), (1, false));
}

pub(in super::super) async fn each_lease_gives_the_value<F: Fixture>() {
    let f = F::make(Options::default()).await;
    import(&f, &plain(&["sk"])).await.unwrap();
    for round in 0..3 {
        let request = RequestKey { digest: [round; 16], parameters: [0; 5] };
        let leased = f.store().lease_once(Leasing::default(), Some(request)).await.unwrap();
        assert_eq!(value(&leased), "sk");
        // A retry gets it, too.
        assert_eq!(f.store().lease_once(Leasing::default(), Some(request)).await, Ok(leased));
        f.advance(super::super::LEASE_MS).await;
    }
    let id = f.create().await;
    let leases = f.store().lease_many(Leasing::default(), 10).await.unwrap();
    assert_eq!(leases.len(), 2);
    for leased in leases {
        assert_eq!(value(&leased), if leased.id == id { "" } else { "sk" });
    }
}
