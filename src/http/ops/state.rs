//! The state of the handlers for operators.

use std::sync::Arc;

use super::readings::Status;
use super::samples::Samples;
use crate::http::api::Api;

/// The state of the handlers for operators: that of the API, and more.
pub(in crate::http) struct Ops<S> {
    pub(in crate::http) api: Api<S>,
    pub(in crate::http) status: Arc<Status>,
    pub(in crate::http) samples: Arc<Samples>,
}

impl<S> Clone for Ops<S> {
    fn clone(&self) -> Self {
        let (status, samples) = (Arc::clone(&self.status), Arc::clone(&self.samples));
        Self { api: self.api.clone(), status, samples }
    }
}
