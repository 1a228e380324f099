//! Answers to methods that a path does not allow.

use axum::response::Response;
use axum::routing::MethodRouter;

use super::problem::Problem;

/// A path that can only be read: it allows GET and HEAD.
pub(in crate::http) fn show<T: Clone + Send + Sync + 'static>(
    router: MethodRouter<T>,
) -> MethodRouter<T> {
    methods(router, "GET, HEAD")
}

/// Refuses all methods but those of `router`, which are `allowed`.
pub(in crate::http) fn methods<T: Clone + Send + Sync + 'static>(
    router: MethodRouter<T>,
    allowed: &'static str,
) -> MethodRouter<T> {
    router.fallback(async move || not_allowed(allowed))
}

/// Refuses a method. The path allows those in `allowed`.
pub(in crate::http) fn not_allowed(allowed: &'static str) -> Response {
    Problem::MethodNotAllowed { allowed }.response()
}
