//! Long work in short steps.

use futures_util::future::join_all;

/// Lets others run between two steps of long work: tasks of this thread, and threads that wait for its
/// processor, which might otherwise wait for milliseconds.
pub(crate) async fn give_way() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}

/// How many are begun together.
const TOGETHER: usize = 16;

/// Awaits all, some at a time: where each waits for a disk, those wait together.
pub(crate) async fn together<F: Future>(mut all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    loop {
        let some: Vec<F> = all.by_ref().take(TOGETHER).collect();
        if some.is_empty() {
            return outputs;
        }
        outputs.extend(join_all(some).await);
        give_way().await;
    }
}
