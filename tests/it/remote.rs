//! The API over a store in Redis: answers are those of a store in memory, byte for byte, but for generations, which are higher.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Diagnose, Options, StoreExt};
use token_orchestrator::time::{ManualClock, Timestamp};

use crate::contract::Fixture;
use crate::contract::remote::Remote;
use crate::late::{at_once, script};
use crate::vanishing::half_closed;

/// Answers as if generations had begun at 0 and not at `first`.
fn lowered(answers: Vec<String>, first: u64) -> Vec<String> {
    let is_high = |text: &&str| text.parse::<u64>().is_ok_and(|generation| generation >= first);
    answers
        .into_iter()
        .map(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let lower = |text: &str| {
                let numbers = text.split(['"', '\\']).filter(is_high);
                numbers.fold(text.to_owned(), |text, high| {
                    text.replace(high, &(high.parse::<u64>().unwrap() - first).to_string())
                })
            };
            let (head, lowered) = (lower(head), lower(body));
            let shorter = body.len() - lowered.len();
            let (fields, length) = head.rsplit_once("content-length: ").unwrap();
            let length = length.parse::<usize>().unwrap() - shorter;
            format!("{fields}content-length: {length}\r\n\r\n{lowered}")
        })
        .collect()
}

async fn answers_as_memory_does<const IS_CLUSTER: bool>() {
    let fixture = Remote::<IS_CLUSTER>::make(Options::default()).await;
    let clock = ManualClock::new(UNIX_EPOCH + Duration::from_millis(Timestamp::EPOCH_UNIX_MS));
    clock.advance_ms(fixture.now().as_ms());
    let (remote, memory) = (fixture.serve().await, at_once(clock).await);
    // While the time stands still, generations begin with twice its microseconds.
    let first = 2000 * fixture.now().as_ms();
    for fields in ["", "Connection: x\r\n"] {
        let answers = lowered(script(&remote, fields).await, first);
        assert_eq!(answers, script(&memory, fields).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_answers_as_memory_does() {
    answers_as_memory_does::<false>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_answers_as_memory_does() {
    answers_as_memory_does::<true>().await;
}

/// Its answer takes a while, but it does not wait for the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_half_gets_a_key_that_is_free() {
    let fixture = Remote::<false>::make(Options::default()).await;
    let server = fixture.serve().await;
    server.store.create(1).await.unwrap();
    for _ in 0..20 {
        half_closed(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_of_the_store() {
    let fixture = Remote::<false>::make(Options::default()).await;
    let diagnose = Some(Arc::new(fixture.store().clone()) as Arc<dyn Diagnose>);
    let server = fixture.serve_with(ServeOptions { diagnose, ..ServeOptions::default() }).await;
    server.store.create(1).await.unwrap();
    let metrics = server.send("GET", "/metrics", "").await.body;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| {
            line.strip_prefix("token_orchestrator_store_")?.strip_prefix(name)?.strip_prefix(' ')
        });
        line.unwrap_or_else(|| panic!("{name} is missing")).parse::<f64>().unwrap()
    };
    assert!(value("calls_total") > 1.0);
    assert!(value("call_seconds_total") > 0.0);
    for none in ["calls_failed_total", "connections_replaced_total", "silent_shards"] {
        assert!(value(none) < 1.0, "{none}");
    }
    assert!(!metrics.contains("value_bytes"));
}
