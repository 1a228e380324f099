//! Long work in short steps.

/// Lets others run in between two steps of a long work: tasks of this thread, and other threads of
/// this processor, which would otherwise wait for milliseconds.
pub(crate) async fn give_way() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}
