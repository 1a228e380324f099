//! The part of the contract about what keys have of their own: values, labels and holders.

mod holders;
mod imports;
mod labels;

use std::sync::Arc;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Holder, Label, Leased, Quota, Value};
use token_orchestrator::pool::{PoolId, PoolName, Settings};
use token_orchestrator::store::{InPool, Leasing, OwnKey, Store, StoreExt};
use tokio::task::JoinHandle;

use super::{Fixture, soon};

pub(super) use self::holders::*;
pub(super) use self::imports::*;
pub(super) use self::labels::*;

/// How long clients wait, in milliseconds.
const WAIT_MS: u32 = 10_000;
/// More keys than a store handles in one step.
const MANY: usize = 200;

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

/// A key to import, with its labels.
fn own(value: &str, labels: &[&str]) -> OwnKey {
    let value = Value::new(value).unwrap();
    OwnKey { value, labels: labels.iter().map(|text| label(text)).collect() }
}

/// Keys to import, without labels.
fn plain(values: &[&str]) -> Vec<OwnKey> {
    values.iter().map(|value| own(value, &[])).collect()
}

fn numbered(count: usize) -> Vec<OwnKey> {
    (0..count).map(|n| own(&format!("sk-{n}"), &[])).collect()
}

/// The text of the value that a lease gives.
fn value(leased: &Leased) -> &str {
    leased.value.as_ref().map_or("", Value::reveal)
}

fn by_label(text: &str, wait_ms: u32) -> Leasing {
    Leasing { label: Some(label(text)), ..Leasing::of_any(None, wait_ms) }
}

fn holder(name: &str, quota: Option<&Arc<Quota>>) -> Holder {
    Holder::new(name, quota.cloned()).unwrap()
}

fn held_by(holder: &Holder, wait_ms: u32) -> Leasing {
    Leasing { holder: Some(holder.clone()), ..Leasing::of_any(None, wait_ms) }
}

async fn put<'a, F: Fixture>(f: &'a F, text: &str) -> InPool<'a, F::Store> {
    let name: PoolName = text.parse().unwrap();
    f.store().put_pool(name, Settings::default()).await.unwrap();
    f.store().pool(f.store().find_pool(text).unwrap())
}

#[track_caller]
fn assert_exhausted<T: std::fmt::Debug>(outcome: &Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Exhausted { .. })), "{outcome:?}");
}

type Waiting = JoinHandle<Result<Leased, Error>>;

/// Starts to wait in a pool, and is in the queue when this returns.
async fn wait_in<F: Fixture>(f: &Arc<F>, pool: PoolId, leasing: Leasing) -> Waiting {
    let count = async || f.store().pool(pool).stats().await.unwrap().waiting;
    let before = count().await;
    let waiter = tokio::spawn({
        let f = Arc::clone(f);
        async move { f.store().pool(pool).lease(leasing).await }
    });
    f.settle().await;
    assert!(waiter.is_finished() || count().await > before, "it neither waits nor has a key");
    waiter
}

async fn wait<F: Fixture>(f: &Arc<F>, leasing: Leasing) -> Waiting {
    wait_in(f, PoolId::DEFAULT, leasing).await
}

async fn assert_wait<F: Fixture>(f: &F, waiters: &[&Waiting]) {
    f.settle().await;
    for (n, waiter) in waiters.iter().enumerate() {
        assert!(!waiter.is_finished(), "number {n} does not wait any more");
    }
}
