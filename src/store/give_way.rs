//! Long work in short steps.

/// Lets others run between two steps of long work: tasks of this thread, and threads that wait for its
/// processor, which might otherwise wait for milliseconds.
pub(crate) async fn give_way() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}
