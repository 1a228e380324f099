//! Waiting until what a store has told is durable.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::port::Store;

/// Waits until all that `store` has given before is durable: before that, no client may be told of it. It asks the store when
/// it is first polled.
pub fn committed<S: Store>(store: &S) -> impl Future<Output = ()> + Send {
    let (mut asked, mut known) = (None, None::<Waker>);
    poll_fn(move |context| {
        let Some(point) = *asked.get_or_insert_with(|| store.uncommitted()) else {
            return Poll::Ready(());
        };
        if store.is_committed(point) {
            return Poll::Ready(());
        }
        // Others that are polled in the same task may poll it often.
        let waker = context.waker();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            store.wake_when_committed(point, waker);
            known = Some(waker.clone());
        }
        Poll::Pending
    })
}
