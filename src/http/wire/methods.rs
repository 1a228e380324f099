//! What a path answers to methods that it does not know.

use axum::response::Response;
use axum::routing::MethodRouter;

use super::problem::Problem;

/// What can only be looked at.
pub(in crate::http) fn show<T: Clone + Send + Sync + 'static>(
    router: MethodRouter<T>,
) -> MethodRouter<T> {
    methods(router, "GET, HEAD")
}

/// Answers other methods than those that `router` knows.
pub(in crate::http) fn methods<T: Clone + Send + Sync + 'static>(
    router: MethodRouter<T>,
    allowed: &'static str,
) -> MethodRouter<T> {
    router.fallback(async move || not_allowed(allowed))
}

/// Refuses a method; `allowed` are those that the path knows.
pub(in crate::http) fn not_allowed(allowed: &'static str) -> Response {
    Problem::MethodNotAllowed { allowed }.response()
}
