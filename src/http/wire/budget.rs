//! The memory that large bodies and large answers share, so that many of them at once take no more.
//!
//! Each request may hold a kilobyte for nothing, which is enough for most. What is larger is counted,
//! in two budgets, each with a part of its own for what is of medium size:
//!
//! - **Bodies**, as their bytes come. One whose next bytes find no room is refused at once. Nobody
//!   waits here while holding a part, so nobody waits for each other; and who merely announces a
//!   large body, and stalls, holds nothing.
//! - **Answers**, and what is read from a body, before anything is done. Whoever finds no room waits
//!   for it, first come, first served, for [`ANSWER_PATIENCE`], and is refused then. An answer is
//!   counted until the client has taken it, for which it has [`TAKING_TIMEOUT`].
//!
//! So clients that send or take things slowly can keep others from things of the same size, and from
//! no smaller ones.

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

use super::problem::Problem;

/// For large bodies, in bytes, of which sixteen of the largest find room at once, and for large
/// answers with what they are made of.
const LARGE_BYTES: usize = 64 * 1024 * 1024;
/// For those of medium size, which so need not wait for the large ones.
const MEDIUM_BYTES: usize = 16 * 1024 * 1024;
/// What takes more is large.
const MEDIUM_MAX: usize = 256 * 1024;
/// A body of so many bytes is not counted.
pub(in crate::http) const SMALL_BODY_BYTES: usize = 1024;
/// An answer that takes so many bytes, with what it is made of, is not counted.
const SMALL_ANSWER_BYTES: usize = 1024;
/// How long a request waits until there is room for its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to take a large answer.
const TAKING_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a large answer is handed out at a time: what a client holds that takes none of it.
const PIECE_BYTES: usize = 16 * 1024;

#[derive(Clone, Default)]
pub(in crate::http) struct Budget {
    bodies: Parts,
    answers: Parts,
}

#[derive(Clone)]
struct Parts {
    medium: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Parts {
    fn default() -> Self {
        let [medium, large] = [MEDIUM_BYTES, LARGE_BYTES].map(|n| Arc::new(Semaphore::new(n)));
        Self { medium, large }
    }
}

impl Parts {
    /// The part for what takes so many bytes.
    fn of(&self, bytes: usize) -> Arc<Semaphore> {
        Arc::clone(if bytes <= MEDIUM_MAX { &self.medium } else { &self.large })
    }
}

impl Budget {
    /// Room for a body that grows.
    pub(in crate::http) fn body(&self) -> BodyRoom {
        BodyRoom { bodies: self.bodies.clone(), permit: None }
    }

    /// Room for an answer that takes, with what it is made of, so many bytes.
    ///
    /// # Errors
    ///
    /// If there is none, and for a while there comes none.
    pub(in crate::http) async fn answer(&self, bytes: usize) -> Result<Room, Problem> {
        if bytes <= SMALL_ANSWER_BYTES {
            return Ok(Room::default());
        }
        // One that is larger than all there is would wait in vain.
        let bytes = bytes.min(LARGE_BYTES);
        let permit = self.answers.of(bytes).acquire_many_owned(to_u32(bytes));
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
pub(in crate::http) struct BodyRoom {
    bodies: Parts,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    /// Makes room for so many bytes in all.
    ///
    /// # Errors
    ///
    /// If there is none. What it has it keeps.
    pub(in crate::http) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes <= SMALL_BODY_BYTES || bytes <= held {
            return Ok(());
        }
        let part = self.bodies.of(bytes);
        match &mut self.permit {
            Some(permit) if Arc::ptr_eq(permit.semaphore(), &part) => {
                let more = part.try_acquire_many_owned(to_u32(bytes - held));
                permit.merge(more.map_err(|_| Problem::Busy)?);
            }
            // None yet, or it has grown out of the other part.
            permit => {
                let all = part.try_acquire_many_owned(to_u32(bytes));
                *permit = Some(all.map_err(|_| Problem::Busy)?);
            }
        }
        Ok(())
    }
}

/// What an answer takes of the budget: nothing if it is small.
#[derive(Default)]
pub(in crate::http) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// The body of the answer, which takes its room with it.
    pub(in crate::http) fn fill(self, bytes: Vec<u8>) -> Body {
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
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES - 1_000_000);
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let body = room.fill(bytes.clone());
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES - 100_000);
        assert_eq!(body.size_hint().exact(), Some(100_000));
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES);
        drop(budget.answer(1_000_000).await.ok().unwrap().fill(bytes));
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_forgotten_and_those_who_wait_are_refused() {
        let budget = Budget::default();
        let mut body = budget.answer(LARGE_BYTES).await.ok().unwrap().fill(vec![0; LARGE_BYTES]);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(matches!(budget.answer(MEDIUM_MAX + 1).await, Err(Problem::Busy)));
        assert!(budget.answer(SMALL_ANSWER_BYTES).await.is_ok(), "small answers need no room");
        assert!(
            budget.answer(MEDIUM_MAX).await.is_ok(),
            "nor those of medium size that of large ones"
        );
        sleep(TAKING_TIMEOUT).await;
        assert!(budget.answer(LARGE_BYTES).await.is_ok());
        assert!(body.frame().await.unwrap().is_err(), "it must not look complete");
    }

    #[test]
    fn bodies_are_counted_as_they_come() {
        let budget = Budget::default();
        let (mut first, mut second) = (budget.body(), budget.body());
        assert!(first.grow(LARGE_BYTES / 2).is_ok() && first.grow(LARGE_BYTES - 2000).is_ok());
        assert!(second.grow(SMALL_BODY_BYTES).is_ok(), "small bodies need no room");
        assert!(second.grow(MEDIUM_MAX).is_ok(), "those of medium size need no room of the large");
        assert_eq!(budget.bodies.medium.available_permits(), MEDIUM_BYTES - MEDIUM_MAX);
        assert!(second.grow(MEDIUM_MAX + 1).is_err());
        drop(first);
        assert!(second.grow(MEDIUM_MAX + 1).is_ok() && second.grow(MEDIUM_MAX + 2).is_ok());
        assert_eq!(budget.bodies.medium.available_permits(), MEDIUM_BYTES);
        drop(second);
        assert_eq!(budget.bodies.large.available_permits(), LARGE_BYTES);
    }
}
