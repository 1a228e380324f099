//! How much the server executes and keeps while nothing is committed, and that it rests meanwhile.

use std::time::Duration;

use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::StoreExt;
use tokio::io::{AsyncWriteExt, join, sink};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Log, UNKNOWN, get, server, wait_for};
use crate::client::{Answer, Client, Server, impatient, until};
use crate::fakes::GROUP;

/// Answers to so many requests take far more than one connection may have parked.
const MANY: usize = 4000;
/// What one connection may have parked, in bytes, and what the loop may.
const OF_ONE_MAX: usize = 64 << 10;
const ALL_MAX: usize = 8 << 20;
/// How much is read from a connection at a time, in bytes.
const READ_MAX: usize = 16 << 10;

/// Pipelined requests on a connection, for a key and for none in turns.
struct Pipeline {
    read: OwnedReadHalf,
    count: usize,
    _writer: JoinHandle<OwnedWriteHalf>,
}

fn two(id: &str) -> String {
    get(&format!("/keys/{id}")) + &get(&format!("/keys/{UNKNOWN}"))
}

impl Pipeline {
    /// Begins to write, and returns at once.
    async fn begin(server: &Server<Log>, id: &str, count: usize) -> Self {
        let (read, mut write) = server.connect().await.into_stream().into_split();
        let requests = two(id).repeat(count / 2);
        let writer = tokio::spawn(async move {
            write.write_all(requests.as_bytes()).await.unwrap();
            write
        });
        Self { read, count, _writer: writer }
    }

    async fn read_all(self) {
        let mut client = Client::over(join(self.read, sink()));
        for n in 0..self.count {
            let expected = if n % 2 == 0 { 200 } else { 404 };
            assert_eq!(client.read("GET").await.status, expected, "number {n}");
        }
    }
}

/// How many bytes an answer has, on average.
async fn answer_bytes(server: &Server<Log>, id: &str) -> usize {
    let mut client = server.connect().await;
    client.write(&two(id)).await;
    let bytes = |answer: Answer| answer.head.len() + 4 + answer.body.len();
    usize::midpoint(bytes(client.read("GET").await), bytes(client.read("GET").await))
}

/// Waits until the server executes nothing more. Each look goes through the thread that would.
async fn rests(server: &Server<Log>) {
    let (mut before, mut looks) = (0, 0);
    while looks < 20 {
        assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
        let executed = server.store.executed();
        looks = if executed == before { looks + 1 } else { 0 };
        before = executed;
    }
}

#[tokio::test]
async fn a_connection_is_read_up_to_a_bound_and_goes_on_after_commits() {
    let server = server(ServeOptions::default()).await;
    let (store, id) = (&server.store, server.create().await);
    let bytes = answer_bytes(&server, &id).await;
    let begun = store.executed();
    store.withhold();
    let pipeline = Pipeline::begin(&server, &id, MANY).await;
    wait_for(&server, store, 1).await;
    rests(&server).await;
    let executed = store.executed() - begun;
    let at_a_time = READ_MAX / (two(&id).len() / 2) + 1;
    assert!((GROUP..=OF_ONE_MAX / bytes + at_a_time + 1).contains(&executed), "{executed}");
    // Another one is read all the same.
    let mut other = server.connect().await;
    other.write(&two(&id)).await;
    until("it is executed", async || store.executed() == begun + executed + 2).await;
    // One commit after the other makes room for more.
    let reading = tokio::spawn(pipeline.read_all());
    for point in 1.. {
        let asked = async || store.asked() >= point || reading.is_finished();
        until("the next ones wait", asked).await;
        if reading.is_finished() {
            break;
        }
        store.commit(point);
    }
    reading.await.unwrap();
    store.open();
    assert_eq!(other.read("GET").await.status, 200);
    assert_eq!(store.executed(), begun + MANY + 2);
}

#[tokio::test]
async fn all_connections_together_have_a_bound() {
    const CLIENTS: usize = 120;
    const OF_EACH: usize = 600;
    let server = server(ServeOptions::default()).await;
    let (store, id) = (&server.store, server.create().await);
    let bytes = answer_bytes(&server, &id).await;
    let begun = store.executed();
    store.withhold();
    let mut pipelines = Vec::new();
    for _ in 0..CLIENTS {
        pipelines.push(Pipeline::begin(&server, &id, OF_EACH).await);
    }
    let is_full = async || (store.executed() - begun) * bytes >= ALL_MAX;
    until("the bound is reached", is_full).await;
    // Nothing can be asked by now that would show that the thread has had time to go on.
    sleep(Duration::from_millis(20)).await;
    let executed = store.executed() - begun;
    let at_a_time = READ_MAX / (two(&id).len() / 2) + 1;
    assert!(executed <= ALL_MAX / bytes + at_a_time + 1, "{executed}");
    store.open();
    for pipeline in pipelines {
        pipeline.read_all().await;
    }
    assert_eq!(store.executed(), begun + CLIENTS * OF_EACH);
}

/// While nothing is committed, the server does nothing.
#[tokio::test]
async fn the_server_rests_while_it_waits_for_a_commit() {
    let server = server(ServeOptions::default()).await;
    let (store, id) = (&server.store, server.create().await);
    store.withhold();
    let pipeline = Pipeline::begin(&server, &id, MANY).await;
    // One is held because its input has ended, and one is about to leave for the router.
    let (mut ended, mut cold) = (server.connect().await, server.connect().await);
    ended.write(&get("/keys")).await;
    ended.end().await;
    cold.write(&(get(&format!("/keys/{id}")) + &get("/healthz"))).await;
    rests(&server).await;
    let (looks, asked) = (store.looks(), store.asked());
    for _ in 0..50 {
        assert_eq!(server.send("GET", "/healthz", "").await.status, 200);
    }
    assert_eq!(store.asked(), asked);
    // A few turns of the loop for each of them. A loop that spins takes thousands.
    let more = store.looks() - looks;
    assert!(more < 1000, "{more}");
    store.open();
    pipeline.read_all().await;
    assert_eq!(ended.read("GET").await.status, 200);
    assert!(ended.is_closed().await);
    for _ in 0..2 {
        assert_eq!(cold.read("GET").await.status, 200);
    }
    assert_eq!(store.inner.stats().await.unwrap().leased, 1);
}

/// However long it takes, for a connection whose answers are parked and for one that is not read meanwhile.
#[tokio::test]
async fn to_wait_for_a_commit_is_not_to_be_idle() {
    let timeouts = impatient(40);
    let server = server(ServeOptions { timeouts, ..ServeOptions::default() }).await;
    let (store, id) = (&server.store, server.create().await);
    store.withhold();
    let pipeline = Pipeline::begin(&server, &id, MANY).await;
    let (mut hot, mut slow) = (server.connect().await, server.connect().await);
    hot.write(&get(&format!("/keys/{id}"))).await;
    slow.write(&get("/keys?count=1")).await;
    sleep(4 * timeouts.idle + Duration::from_millis(50)).await;
    store.open();
    pipeline.read_all().await;
    for client in [&mut hot, &mut slow] {
        assert_eq!(client.read("GET").await.status, 200);
    }
}
