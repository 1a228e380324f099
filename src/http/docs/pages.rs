//! The document, and a page that shows it.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use utoipa_swagger_ui::{Config, serve};

use super::document::document;
use crate::http::api::Limits;
use crate::http::wire::{Problem, json, respond, show};

/// The document, and a page that shows it. It tells the limits of this server.
pub(in crate::http) fn routes<T: Clone + Send + Sync + 'static>(limits: Limits) -> Router<T> {
    let document = Bytes::from(document(limits).to_pretty_json().expect("strings and numbers"));
    // Without a validator, which would be asked elsewhere.
    let config = Config::from("/openapi.json").validator_url("none");
    let config = Arc::new(config.display_request_duration(true).use_base_layout());
    let for_index = Arc::clone(&config);
    let index = async move || page("index.html", for_index);
    let page = async move |path: Result<Path<String>, PathRejection>| match path {
        Ok(Path(path)) => page(&path, config),
        Err(_) => Problem::NoSuchPath.response(),
    };
    let document = get(async move || json(StatusCode::OK, document));
    Router::new()
        .route("/openapi.json", show(document))
        .route("/docs", show(get(async || to_page())))
        .route("/docs/", show(get(index)))
        .route("/docs/{*path}", show(get(page)))
}

fn to_page() -> Response {
    let mut response = json(StatusCode::PERMANENT_REDIRECT, "{}");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/docs/"));
    response
}

fn page(path: &str, config: Arc<Config<'static>>) -> Response {
    match serve(path, config) {
        Ok(Some(file)) => {
            // Those who are slow to take a file shall not each hold a copy of it.
            let bytes = match file.bytes {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => bytes.into(),
            };
            let mut response = respond(StatusCode::OK, "text/html", bytes.into());
            let content_type = file.content_type.parse().expect("a media type");
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        _ => Problem::NoSuchPath.response(),
    }
}
