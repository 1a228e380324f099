//! Limits of how many connections there may be at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A limit, and how much of it is taken. A permit is given back when it is dropped.
pub(in crate::http) struct Permits {
    max: usize,
    free: Arc<Semaphore>,
}

impl Permits {
    pub(in crate::http) fn new(max: usize) -> Self {
        Self { max, free: Arc::new(Semaphore::new(max)) }
    }

    /// Waits until there is a permit, and takes none.
    pub(in crate::http) async fn wait(&self) {
        let _free = self.free.acquire().await;
    }

    /// A permit, if there is one.
    pub(in crate::http) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// How many permits there are, taken or not.
    pub(in crate::http) fn max(&self) -> usize {
        self.max
    }

    /// How many permits are taken.
    pub(in crate::http) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }
}
