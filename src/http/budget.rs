//! The memory that large bodies and large answers share, so that many of them at once take no more.
//!
//! Each connection may hold some kilobytes for nothing: the heads, bodies and answers of most. What
//! is larger is counted, in one of two budgets:
//!
//! - **Bodies**, as their bytes come. One whose next bytes find no room is refused at once. Nobody
//!   waits here while holding a part, so nobody waits for each other; and who merely announces a
//!   large body, and stalls, holds nothing.
//! - **Answers**, and what is read from a body, before anything is done. Whoever finds no room waits
//!   for it, first come, first served, for [`ANSWER_PATIENCE`], and is refused then. An answer is
//!   counted until the client has taken it, for which it has [`TAKING_TIMEOUT`].
//!
//! So clients that send or take large things slowly can keep others from large things, and from
//! nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::error::Problem;

/// For bodies, in bytes: of the largest, sixteen at once.
const BODIES_BYTES: usize = 64 * 1024 * 1024;
/// For answers, and what they are made of, in bytes.
const ANSWERS_BYTES: usize = 64 * 1024 * 1024;
/// A body of so many bytes is not counted.
pub(super) const SMALL_BODY_BYTES: usize = 1024;
/// An answer that takes so many bytes, with what it is made of, is not counted.
const SMALL_ANSWER_BYTES: usize = 16 * 1024;
/// How long a request waits until there is room for its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to take a large answer.
const TAKING_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a large answer is handed out at a time: what a client holds that takes none of it.
const PIECE_BYTES: usize = 16 * 1024;

#[derive(Clone)]
pub(super) struct Budget {
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        let (bodies, answers) = (Semaphore::new(BODIES_BYTES), Semaphore::new(ANSWERS_BYTES));
        Self { bodies: Arc::new(bodies), answers: Arc::new(answers) }
    }
}

impl Budget {
    /// Room for a body that grows.
    pub(super) fn body(&self) -> BodyRoom {
        BodyRoom { bodies: Arc::clone(&self.bodies), permit: None }
    }

    /// Room for an answer that takes, with what it is made of, so many bytes.
    ///
    /// # Errors
    ///
    /// If there is none, and for a while there comes none.
    pub(super) async fn answer(&self, bytes: usize) -> Result<Room, Problem> {
        if bytes <= SMALL_ANSWER_BYTES {
            return Ok(Room::default());
        }
        // One that is larger than all there is would wait in vain.
        let bytes = to_u32(bytes.min(ANSWERS_BYTES));
        let permit = Arc::clone(&self.answers).acquire_many_owned(bytes);
        match timeout(ANSWER_PATIENCE, permit).await {
            Ok(Ok(permit)) => Ok(Room(Some(permit))),
            _ => Err(Problem::Busy),
        }
    }
}

fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("less than the whole budget")
}

/// What a body takes of the budget, until it goes.
pub(super) struct BodyRoom {
    bodies: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    /// Makes room for so many bytes in all.
    ///
    /// # Errors
    ///
    /// If there is none. What it has it keeps.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes <= SMALL_BODY_BYTES || bytes <= held {
            return Ok(());
        }
        let more = Arc::clone(&self.bodies).try_acquire_many_owned(to_u32(bytes - held));
        let more = more.map_err(|_| Problem::Busy)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// What an answer takes of the budget: nothing if it is small.
#[derive(Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// The body of the answer, which takes its room with it.
    pub(super) fn fill(self, bytes: Vec<u8>) -> Body {
        let Some(mut permit) = self.0 else { return Body::from(bytes) };
        // What it was made of is gone.
        drop(permit.split(permit.num_permits().saturating_sub(bytes.len())));
        Body::new(Large::new(bytes, permit))
    }
}

/// A body that is forgotten if it is not taken in time.
struct Large {
    held: Arc<Mutex<Option<Held>>>,
    /// Bytes that are still to be handed out.
    left: usize,
    forgetting: AbortHandle,
}

struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl Large {
    fn new(bytes: Vec<u8>, permit: OwnedSemaphorePermit) -> Self {
        let left = bytes.len();
        let held = Arc::new(Mutex::new(Some(Held { bytes, _permit: permit })));
        let forgotten = Arc::clone(&held);
        // A task of its own: a body is not asked for more by a client that does not listen.
        let forgetting = tokio::spawn(async move {
            sleep(TAKING_TIMEOUT).await;
            *forgotten.lock() = None;
        });
        Self { held, left, forgetting: forgetting.abort_handle() }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.forgetting.abort();
        // The task may live a little longer.
        *self.held.lock() = None;
    }
}

impl HttpBody for Large {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = match &*self.held.lock() {
            None => return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
            Some(Held { bytes, .. }) => {
                let rest = &bytes[bytes.len() - self.left..];
                // A copy: a part of the whole would keep all of it.
                Bytes::copy_from_slice(&rest[..rest.len().min(PIECE_BYTES)])
            }
        };
        self.left -= piece.len();
        if self.left == 0 {
            *self.held.lock() = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_large_answer_is_whole_and_gives_its_room_back() {
        let budget = Budget::default();
        let room = budget.answer(1_000_000).await.ok().unwrap();
        assert_eq!(budget.answers.available_permits(), ANSWERS_BYTES - 1_000_000);
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let body = room.fill(bytes.clone());
        assert_eq!(budget.answers.available_permits(), ANSWERS_BYTES - 100_000);
        assert_eq!(body.size_hint().exact(), Some(100_000));
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        assert_eq!(budget.answers.available_permits(), ANSWERS_BYTES);
        drop(budget.answer(1_000_000).await.ok().unwrap().fill(bytes));
        assert_eq!(budget.answers.available_permits(), ANSWERS_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_forgotten_and_those_who_wait_are_refused() {
        let budget = Budget::default();
        let mut body =
            budget.answer(ANSWERS_BYTES).await.ok().unwrap().fill(vec![0; ANSWERS_BYTES]);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(matches!(budget.answer(SMALL_ANSWER_BYTES + 1).await, Err(Problem::Busy)));
        assert!(budget.answer(SMALL_ANSWER_BYTES).await.is_ok(), "small answers need no room");
        sleep(TAKING_TIMEOUT).await;
        assert!(budget.answer(ANSWERS_BYTES).await.is_ok());
        assert!(body.frame().await.unwrap().is_err(), "it must not look complete");
    }

    #[test]
    fn bodies_are_counted_as_they_come() {
        let budget = Budget::default();
        let (mut first, mut second) = (budget.body(), budget.body());
        assert!(first.grow(BODIES_BYTES / 2).is_ok() && first.grow(BODIES_BYTES - 2000).is_ok());
        assert!(second.grow(SMALL_BODY_BYTES).is_ok(), "small bodies need no room");
        assert!(second.grow(2000).is_ok());
        assert!(second.grow(2001).is_err());
        drop(first);
        assert!(second.grow(2001).is_ok());
        drop(second);
        assert_eq!(budget.bodies.available_permits(), BODIES_BYTES);
    }
}
