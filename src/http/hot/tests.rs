//! How a thread of the hot path ends, as far as tests of the whole server cannot see it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Semaphore, mpsc};

use super::completions::Completions;
use super::event_loop::{Loop, Shared};
use super::mailbox::{Mailbox, Transfer};
use crate::http::api::Limits;
use crate::http::auth::Access;
use crate::key::{KeyId, State};
use crate::store::{Complete, Leasing, Memory, Options, Reply, StoreExt};
use crate::time::ManualClock;

type Hot = Loop<Memory<ManualClock>>;

/// A store with one key, and a thread's loop over it.
async fn one_key() -> (Arc<Memory<ManualClock>>, KeyId, Arc<Mailbox>, Hot) {
    let store = Arc::new(Memory::new(Options::default(), ManualClock::default()));
    let id = store.create(1).await.unwrap().ids[0];
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let shared = Shared {
        store: Arc::clone(&store),
        access: Access::open(),
        limits: Limits::default(),
        head_timeout: Duration::from_secs(1),
    };
    let hot = Loop::new(shared, Arc::default(), Arc::clone(&mailbox), mpsc::unbounded_channel().0);
    (store, id, mailbox, hot.unwrap())
}

/// A connection that comes back to the hot path, and its client.
fn connection() -> (TcpStream, Transfer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let transfer = Transfer {
        stream: listener.accept().unwrap().0,
        read: b"GET".to_vec(),
        is_new: false,
        permit,
        home: None,
    };
    (client, transfer)
}

#[tokio::test]
async fn a_thread_that_has_ended_takes_nothing_more() {
    let (store, id, mailbox, mut hot) = one_key().await;
    mailbox.stop();
    hot.run();
    let refused = mailbox.add(connection().1).unwrap_err();
    assert_eq!(refused.read, b"GET", "it comes back as it was");
    let lease = store.lease(Leasing::default()).await.unwrap();
    let completions = Completions::new(&mailbox);
    assert!(!completions.complete(0, Ok(Reply::Leased(lease))), "so the store takes it back");
    assert_eq!(lease.id, id);
}

#[tokio::test]
async fn a_thread_that_is_to_stop_answers_what_came_before() {
    let (_store, _, mailbox, mut hot) = one_key().await;
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
    let (store, id, mailbox, mut hot) = one_key().await;
    let lease = store.lease(Leasing::default()).await.unwrap();
    let completions = Completions::new(&mailbox);
    assert!(completions.complete(0, Ok(Reply::Leased(lease))), "it is still there");
    mailbox.cut_off();
    hot.run();
    // One turn of the sweep takes it back.
    assert!(pin!((*store).clone().sweep()).now_or_never().is_none());
    assert_eq!(store.get(&id).await.unwrap().state, State::Free);
}
