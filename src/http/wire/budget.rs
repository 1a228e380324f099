//! The memory that large bodies and large answers share, so that many of them at once take no more.
//!
//! A kilobyte for each request is not counted, which is enough for most requests. Larger ones take permits,
//! one for each byte, from one of two budgets. Each budget has a part of its own for medium sizes:
//!
//! - **Bodies** take permits as their bytes arrive. A body that gets no permit for its next bytes is
//!   refused at once. No body waits while it has permits, so there is no deadlock. A client that
//!   announces a large body and stalls takes no permits.
//! - **Answers**, and what is read from a body, take permits before the request is carried out. A request
//!   that gets no permit waits for it in the order of arrival, for [`ANSWER_PATIENCE`], and is refused
//!   then. An answer keeps its permit until the client has received it, within [`RECEIVE_TIMEOUT`].
//!
//! - **Heads** that have begun and stall take permits for their bytes, from a budget of their own.
//!
//! So a slow client can delay requests of the same size, and none that are smaller.

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

/// Memory for large bodies, enough for sixteen of the largest at once; and as much for large answers and
/// their sources. In bytes.
const LARGE_BYTES: usize = 64 * 1024 * 1024;
/// Memory for heads that have begun, enough for a thousand of the longest at once. In bytes.
const HEADS_BYTES: usize = 16 * 1024 * 1024;
/// Memory for medium sizes, which therefore need not wait for large ones. In bytes.
const MEDIUM_BYTES: usize = 16 * 1024 * 1024;
/// The largest medium size, in bytes.
const MEDIUM_MAX: usize = 256 * 1024;
/// The largest body that is not counted, in bytes.
pub(in crate::http) const SMALL_BODY_BYTES: usize = 1024;
/// The part of a head that is not counted, in bytes.
const SMALL_HEAD_BYTES: usize = 1024;
/// The largest answer, with its sources, that is not counted, in bytes.
const SMALL_ANSWER_BYTES: usize = 1024;
/// How long a request waits for the permit of its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to receive a large answer.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a large answer is copied at a time, in bytes: a client that stalls costs no more.
const PIECE_BYTES: usize = 16 * 1024;

/// The memory that large bodies, large answers and long heads share. Clones share it as well.
#[derive(Clone)]
pub(in crate::http) struct Budget {
    bodies: Parts,
    answers: Parts,
    heads: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        let heads = Arc::new(Semaphore::new(HEADS_BYTES));
        Self { bodies: Parts::default(), answers: Parts::default(), heads }
    }
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
    /// The part for this size.
    fn of(&self, bytes: usize) -> Arc<Semaphore> {
        Arc::clone(if bytes <= MEDIUM_MAX { &self.medium } else { &self.large })
    }
}

impl Budget {
    /// The permit for a head of which so many bytes have come; none if these are few. O(1).
    ///
    /// # Errors
    ///
    /// [`Problem::Busy`] if the budget is used up.
    pub(in crate::http) fn head(&self, bytes: usize) -> Result<Option<HeadPermit>, Problem> {
        if bytes <= SMALL_HEAD_BYTES {
            return Ok(None);
        }
        let permit = Arc::clone(&self.heads).try_acquire_many_owned(to_u32(bytes));
        permit.map(|permit| Some(Box::new(permit))).map_err(|_| Problem::Busy)
    }

    /// The permit for a body, which grows with it.
    pub(in crate::http) fn body(&self) -> BodyPermit {
        BodyPermit { bodies: self.bodies.clone(), permit: None }
    }

    /// The permit for answers that were written already and take `bytes` bytes; none if these are no more than many small
    /// answers have. O(1).
    ///
    /// # Errors
    ///
    /// [`Problem::Busy`] if the budget is used up.
    pub(in crate::http) fn written(&self, bytes: usize) -> Result<AnswerPermit, Problem> {
        if bytes <= MEDIUM_MAX {
            return Ok(AnswerPermit::default());
        }
        let permit =
            Arc::clone(&self.answers.large).try_acquire_many_owned(to_u32(bytes.min(LARGE_BYTES)));
        permit.map(|permit| AnswerPermit(Some(permit))).map_err(|_| Problem::Busy)
    }

    /// The permit for an answer that takes, with its sources, `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::Busy`] if there is no permit for [`ANSWER_PATIENCE`].
    pub(in crate::http) async fn answer(&self, bytes: usize) -> Result<AnswerPermit, Problem> {
        if bytes <= SMALL_ANSWER_BYTES {
            return Ok(AnswerPermit::default());
        }
        // More than the whole budget would never be available.
        let bytes = bytes.min(LARGE_BYTES);
        let permit = self.answers.of(bytes).acquire_many_owned(to_u32(bytes));
        match timeout(ANSWER_PATIENCE, permit).await {
            Ok(Ok(permit)) => Ok(AnswerPermit(Some(permit))),
            _ => Err(Problem::Busy),
        }
    }

    /// As [`Budget::answer`], in place of a permit that has turned out to be of the wrong size. That one goes back first:
    /// requests that have some and want more would wait for one another.
    pub(in crate::http) async fn answer_instead(
        &self,
        permit: AnswerPermit,
        bytes: usize,
    ) -> Result<AnswerPermit, Problem> {
        drop(permit);
        self.answer(bytes).await
    }
}

fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("at most the whole budget")
}

/// The share of the budget that a head has. In a box, because few connections have one.
pub(in crate::http) type HeadPermit = Box<OwnedSemaphorePermit>;

/// The share of the budget that a body has until it is dropped.
pub(in crate::http) struct BodyPermit {
    bodies: Parts,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyPermit {
    /// Grows to `bytes` bytes in all.
    ///
    /// # Errors
    ///
    /// [`Problem::Busy`] if the budget is used up. The permit then stays as it is.
    pub(in crate::http) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let permitted = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes <= SMALL_BODY_BYTES || bytes <= permitted {
            return Ok(());
        }
        let part = self.bodies.of(bytes);
        match &mut self.permit {
            Some(permit) if Arc::ptr_eq(permit.semaphore(), &part) => {
                let more = part.try_acquire_many_owned(to_u32(bytes - permitted));
                permit.merge(more.map_err(|_| Problem::Busy)?);
            }
            // There is none yet, or the body has outgrown the medium part.
            permit => {
                let all = part.try_acquire_many_owned(to_u32(bytes));
                *permit = Some(all.map_err(|_| Problem::Busy)?);
            }
        }
        Ok(())
    }
}

/// The share of the budget that an answer has: none if it is small.
#[derive(Default)]
pub(in crate::http) struct AnswerPermit(Option<OwnedSemaphorePermit>);

impl AnswerPermit {
    /// The body of the answer. It keeps its permit until it was sent.
    pub(in crate::http) fn into_body(self, bytes: Vec<u8>) -> Body {
        let Some(mut permit) = self.0 else { return Body::from(bytes) };
        // The sources are dropped, so their share is released.
        drop(permit.split(permit.num_permits().saturating_sub(bytes.len())));
        Body::new(Large::new(bytes, permit))
    }
}

/// A body that is dropped if the client does not receive it in time.
struct Large {
    content: Arc<Mutex<Option<Content>>>,
    /// Bytes that are still to be sent.
    left: usize,
    expiry: AbortHandle,
}

struct Content {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl Large {
    fn new(bytes: Vec<u8>, permit: OwnedSemaphorePermit) -> Self {
        let left = bytes.len();
        let content = Arc::new(Mutex::new(Some(Content { bytes, _permit: permit })));
        let expired = Arc::clone(&content);
        // A task of its own, because a body is not polled while the client does not read.
        let expiry = tokio::spawn(async move {
            sleep(RECEIVE_TIMEOUT).await;
            *expired.lock() = None;
        });
        Self { content, left, expiry: expiry.abort_handle() }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.expiry.abort();
        // The task may run a little longer.
        *self.content.lock() = None;
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
        let piece = match &*self.content.lock() {
            None => return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
            Some(Content { bytes, .. }) => {
                let unsent = &bytes[bytes.len() - self.left..];
                // A copy, because a shared slice would keep all the memory.
                Bytes::copy_from_slice(&unsent[..unsent.len().min(PIECE_BYTES)])
            }
        };
        self.left -= piece.len();
        if self.left == 0 {
            *self.content.lock() = None;
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
    async fn a_large_answer_is_whole_and_gives_its_permit_back() {
        let budget = Budget::default();
        let permit = budget.answer(1_000_000).await.ok().unwrap();
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES - 1_000_000);
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let body = permit.into_body(bytes.clone());
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES - 100_000);
        assert_eq!(body.size_hint().exact(), Some(100_000));
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES);
        drop(budget.answer(1_000_000).await.ok().unwrap().into_body(bytes));
        assert_eq!(budget.answers.large.available_permits(), LARGE_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_received_is_dropped_and_requests_that_wait_are_refused() {
        let budget = Budget::default();
        let mut body =
            budget.answer(LARGE_BYTES).await.ok().unwrap().into_body(vec![0; LARGE_BYTES]);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(matches!(budget.answer(MEDIUM_MAX + 1).await, Err(Problem::Busy)));
        assert!(budget.answer(SMALL_ANSWER_BYTES).await.is_ok(), "small answers need no permit");
        assert!(
            budget.answer(MEDIUM_MAX).await.is_ok(),
            "medium answers need no permit of the large ones"
        );
        sleep(RECEIVE_TIMEOUT).await;
        assert!(budget.answer(LARGE_BYTES).await.is_ok());
        assert!(body.frame().await.unwrap().is_err(), "it must not look complete");
    }

    #[test]
    fn heads_that_stall_have_a_budget_of_their_own() {
        let budget = Budget::default();
        assert!(matches!(budget.head(SMALL_HEAD_BYTES), Ok(None)), "few bytes are not counted");
        let heads: Vec<_> = (0..1024).map(|_| budget.head(16 * 1024).ok().unwrap()).collect();
        assert!(budget.head(SMALL_HEAD_BYTES + 1).is_err());
        assert!(budget.body().grow(MEDIUM_MAX).is_ok(), "bodies have theirs");
        drop(heads);
        assert!(budget.head(16 * 1024).is_ok());
    }

    #[test]
    fn bodies_are_counted_as_they_come() {
        let budget = Budget::default();
        let (mut first, mut second) = (budget.body(), budget.body());
        assert!(first.grow(LARGE_BYTES / 2).is_ok() && first.grow(LARGE_BYTES - 2000).is_ok());
        assert!(second.grow(SMALL_BODY_BYTES).is_ok(), "small bodies need no permit");
        assert!(second.grow(MEDIUM_MAX).is_ok(), "medium bodies need no permit of the large ones");
        assert_eq!(budget.bodies.medium.available_permits(), MEDIUM_BYTES - MEDIUM_MAX);
        assert!(second.grow(MEDIUM_MAX + 1).is_err());
        drop(first);
        assert!(second.grow(MEDIUM_MAX + 1).is_ok() && second.grow(MEDIUM_MAX + 2).is_ok());
        assert_eq!(budget.bodies.medium.available_permits(), MEDIUM_BYTES);
        drop(second);
        assert_eq!(budget.bodies.large.available_permits(), LARGE_BYTES);
    }
}
