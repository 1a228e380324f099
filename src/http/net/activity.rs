//! Whether all requests of a connection are answered, and what the last one was.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

/// The requests of a connection.
#[derive(Default)]
pub(super) struct Activity {
    begun: AtomicU32,
    /// Requests whose handlers have answered.
    answered: AtomicU32,
    /// Pieces of answers that hyper has taken to send them.
    taken: AtomicU32,
    /// The last request is one that the hot path answers.
    is_hot: AtomicBool,
    ended: AtomicU32,
    /// The client does not receive what is sent.
    is_blocked: AtomicBool,
    /// It has begun to receive again.
    is_unblocked: AtomicBool,
}

impl Activity {
    /// Counts a request, which is in flight until the [`InFlight`] is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.begun.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Relaxed);
        self.is_unblocked.store(!is_blocked, Relaxed);
    }

    /// Whether the client has begun to receive again since the last call.
    pub(super) fn take_unblocked(&self) -> bool {
        self.is_unblocked.swap(false, Relaxed)
    }

    /// Notes that a handler has answered.
    pub(super) fn note_answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    /// How much the client has taken, if all handlers have answered and some answers wait for it.
    pub(super) fn taken_while_waiting(&self) -> Option<(u32, u32)> {
        let (begun, ended) = (self.begun.load(Relaxed), self.ended.load(Relaxed));
        let is_waiting = begun == self.answered.load(Relaxed) && begun != ended;
        is_waiting.then(|| (ended, self.taken.load(Relaxed)))
    }

    /// Notes whether the request that is answered now is one that the hot path answers.
    pub(super) fn set_hot(&self, is_hot: bool) {
        self.is_hot.store(is_hot, Relaxed);
    }

    /// Whether all requests are answered, and the last one is one that the hot path answers.
    pub(super) fn may_go_back(&self) -> bool {
        self.is_hot.load(Relaxed) && self.all_ended().is_some()
    }

    /// How many requests have begun, if all were answered in full and the client receives what is sent.
    pub(super) fn all_ended(&self) -> Option<u32> {
        let begun = self.begun.load(Relaxed);
        (begun == self.ended.load(Relaxed) && !self.is_blocked.load(Relaxed)).then_some(begun)
    }
}

/// A request that is not yet answered in full.
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

/// The body of an answer. Hyper drops it when it has taken all of it, which ends the request.
pub(super) struct AnswerBody {
    pub(super) body: Body,
    pub(super) request: InFlight,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.request.0.taken.fetch_add(1, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
