//! How a thread of the hot path ends, as far as tests of the whole server cannot see it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rustix::io::ioctl_fionread;
use rustix::net::sockopt::set_socket_linger;
use tokio::sync::{Semaphore, mpsc};

use super::completions::Completions;
use super::connection::Connection;
use super::event_loop::{Loop, Shared};
use super::mailbox::{Mailbox, Transfer};
use crate::http::api::{Place, Timeouts};
use crate::http::auth::Access;
use crate::http::meter::Metrics;
use crate::http::route::Route;
use crate::http::wire::Budget;
use crate::key::{Fence, KeyId, State};
use crate::pool::PoolId;
use crate::store::{
    CommitPoint, Complete, Leasing, Memory, Options, OwnKey, Reply, Store, StoreExt,
};
use crate::time::ManualClock;

/// A loop over a store with one key.
struct Fixture {
    store: Arc<Memory<ManualClock>>,
    id: KeyId,
    mailbox: Arc<Mailbox>,
    hot: Loop<Memory<ManualClock>>,
    metrics: Metrics,
    budget: Budget,
}

async fn one_key() -> Fixture {
    let store = Arc::new(Memory::new(Options::default(), ManualClock::default()));
    let id = store.create(1).await.unwrap().ids[0];
    let (mailbox, metrics) = (Arc::new(Mailbox::new().unwrap()), Metrics::default());
    let budget = Budget::default();
    let shared = Shared {
        store: Arc::clone(&store),
        access: Access::open(),
        budget: budget.clone(),
        timeouts: Timeouts::default(),
        audit: None,
    };
    let cold = mpsc::unbounded_channel().0;
    let hot = Loop::new(shared, metrics.of_thread(), Arc::clone(&mailbox), cold).unwrap();
    Fixture { store, id, mailbox, hot, metrics, budget }
}

/// A connection that comes back to the hot path, and its client.
fn connection() -> (TcpStream, Transfer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let place = Place::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(), None, None);
    let transfer = Transfer {
        stream: listener.accept().unwrap().0,
        session: None,
        read: b"GET".to_vec(),
        is_new: false,
        place,
        home: None,
    };
    (client, transfer)
}

#[tokio::test]
async fn a_thread_that_has_ended_takes_nothing_more() {
    let Fixture { store, id, mailbox, mut hot, .. } = one_key().await;
    mailbox.stop();
    hot.run();
    let refused = mailbox.add(connection().1).unwrap_err();
    assert_eq!(refused.read, b"GET", "it comes back as it was");
    let lease = store.lease(Leasing::default()).await.unwrap();
    let completions = Completions::new(&mailbox);
    assert!(
        !completions.complete(0, Ok(Reply::Leased(lease.clone()))),
        "so the store takes it back"
    );
    assert_eq!(lease.id, id);
}

#[tokio::test]
async fn a_thread_that_is_to_stop_answers_what_came_before() {
    let Fixture { mailbox, mut hot, .. } = one_key().await;
    let (client, mut transfer) = connection();
    transfer.read = b"GET /keys HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    transfer.stream.set_nonblocking(true).unwrap();
    // Only the last byte has still to be read from the socket.
    let last = transfer.read.pop().unwrap();
    (&client).write_all(&[last]).unwrap();
    mailbox.stop();
    assert!(mailbox.add(transfer).is_ok());
    hot.run();
    drop(hot);
    let mut answer = String::new();
    (&client).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn leases_that_a_thread_had_not_taken_when_it_was_cut_off_go_back() {
    let Fixture { store, id, mailbox, mut hot, .. } = one_key().await;
    let lease = store.lease(Leasing::default()).await.unwrap();
    let completions = Completions::new(&mailbox);
    assert!(completions.complete(0, Ok(Reply::Leased(lease))), "it is still there");
    mailbox.cut_off();
    hot.run();
    // One turn of the sweep takes it back.
    assert!(pin!((*store).clone().sweep()).now_or_never().is_none());
    assert_eq!(store.get(&id).await.unwrap().state, State::Free);
}

/// Sends requests by `client`, which has a connection at the loop from now on.
fn send(mailbox: &Mailbox, requests: &str) -> TcpStream {
    let (client, mut transfer) = connection();
    transfer.read.clear();
    transfer.stream.set_nonblocking(true).unwrap();
    (&client).write_all(requests.as_bytes()).unwrap();
    assert!(mailbox.add(transfer).is_ok());
    client
}

const LEASE: &str = "GET /keys HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn the_last_answers_of_a_thread_are_counted() {
    let Fixture { mailbox, mut hot, metrics, .. } = one_key().await;
    // A request that is not hot takes the connection away with the answer before it.
    let _client = send(&mailbox, &format!("{LEASE}GET /stats HTTP/1.1\r\nHost: a\r\n\r\n"));
    mailbox.stop();
    hot.run();
    assert_eq!(metrics.answered(Route::Lease, 200), 1);
}

#[tokio::test]
async fn a_client_that_was_reset_takes_no_key_along() {
    let Fixture { store, id, mailbox, mut hot, .. } = one_key().await;
    let client = send(&mailbox, LEASE);
    // To close with a time to linger of zero is a reset.
    set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    mailbox.stop();
    hot.run();
    assert!(pin!((*store).clone().sweep()).now_or_never().is_none());
    assert_eq!(store.get(&id).await.unwrap().state, State::Free);
}

/// Answers with long values are sent only as far as there is memory for them.
#[tokio::test]
async fn large_answers_have_a_share_of_the_budget_or_their_leases_go_back() {
    const LEASES: u32 = 40;
    for has_memory in [true, false] {
        let Fixture { store, id, mailbox, mut hot, metrics, budget } = one_key().await;
        store.delete(&id, Fence::Any).await.unwrap();
        let keys: Vec<_> = (0..LEASES).map(OwnKey::longest).collect();
        store.import(PoolId::DEFAULT, &keys).await.unwrap();
        let others = (!has_memory).then(|| budget.written(usize::MAX).ok().unwrap());
        let client = send(&mailbox, &LEASE.repeat(LEASES as usize));
        let reading = thread::spawn(move || {
            let mut answers = Vec::new();
            (&client).read_to_end(&mut answers).map(|_| String::from_utf8(answers).unwrap())
        });
        mailbox.stop();
        hot.run();
        assert!(pin!((*store).clone().sweep()).now_or_never().is_none());
        let answers = reading.join().unwrap().unwrap_or_default();
        let leased = store.stats().await.unwrap().leased;
        let expected = if has_memory { LEASES } else { 0 };
        assert_eq!(
            (leased, answers.matches("200 OK").count()),
            (expected.into(), expected as usize)
        );
        assert_eq!(metrics.answered(Route::Lease, 200), u64::from(LEASES));
        drop(others);
        assert!(budget.written(usize::MAX).is_ok(), "a share was not given back");
    }
}

/// A client that has sent more than the server reads still receives what it was answered.
#[tokio::test]
async fn input_that_nobody_reads_at_a_stop_destroys_no_answers() {
    let Fixture { id, mailbox, mut hot, metrics, .. } = one_key().await;
    let (client, mut transfer) = connection();
    transfer.read.clear();
    transfer.stream.set_nonblocking(true).unwrap();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let requests = format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(1000);
        for _ in 0..40 {
            writer.write_all(requests.as_bytes()).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    while ioctl_fionread(&transfer.stream).unwrap() < 100_000 {
        thread::yield_now();
    }
    mailbox.stop();
    assert!(mailbox.add(transfer).is_ok());
    let reading = thread::spawn(move || {
        let mut answers = String::new();
        (&client).read_to_string(&mut answers).map(|_| answers)
    });
    hot.run();
    writing.join().unwrap();
    let answers = reading.join().unwrap().expect("the connection is not reset");
    let received = answers.matches("HTTP/1.1 200 OK").count() as u64;
    assert!(received >= 1000, "{received}");
    assert_eq!(received, metrics.answered(Route::Show, 200));
}

#[test]
fn parked_answers_have_a_share_of_the_budget_until_they_have_left() {
    const LARGE: usize = 1 << 20;
    let ((_client, transfer), budget) = (connection(), Budget::default());
    let mut connection = Connection::new(transfer, 0);
    connection.reserve(LARGE, &budget).unwrap();
    connection.parked = LARGE;
    let is_free = || budget.written(usize::MAX).is_ok();
    connection.flush().unwrap();
    assert!(!is_free());
    for (left, has_share) in [(LARGE / 2, true), (0, false)] {
        connection.parked = left;
        connection.send_reserved(b"HTTP/1.1 200 OK\r\n").unwrap();
        assert_eq!(!is_free(), has_share, "{left} bytes are left");
    }
    let others = budget.written(usize::MAX).ok().unwrap();
    assert!(connection.reserve(LARGE, &budget).is_err());
    drop(others);
}

/// Also what rests on nothing leaves in its turn.
#[tokio::test]
async fn answers_that_need_no_commit_leave_after_those_that_do() {
    let Fixture { mut hot, budget, .. } = one_key().await;
    let (mut client, mut transfer) = connection();
    transfer.stream.set_nonblocking(true).unwrap();
    transfer.read = LEASE.as_bytes().to_vec();
    let index = hot.connections.insert(Connection::new(transfer, 0));
    hot.answers.output.extend(b"parked,");
    hot.send_at(Some(CommitPoint(1)), index, Instant::now(), &[], false);
    hot.read(index);
    hot.answer();
    // There is no memory for a head that has begun, so it is refused.
    let _others: Vec<_> = (0..1024).map(|_| budget.head(16 * 1024).ok()).collect();
    hot.connections[index].input = b"x".repeat(2000);
    hot.connections[index].has_more = true;
    hot.read(index);
    hot.send_committed();
    drop(hot);
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    let [parked, lease, refusal] =
        ["parked,", "HTTP/1.1 200 OK", "HTTP/1.1 503"].map(|begin| answers.find(begin));
    assert!(parked == Some(0) && lease.is_some() && lease < refusal, "{answers}");
}
