//! `/openapi.json`, and `/docs/`, a page that shows it and tries it out.
//!
//! The page is `RapiDoc`, one file that is kept beside this one: see `rapidoc/README.md`. All that it loads
//! comes from here, by relative paths, so that it works below the path of a proxy.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;

use super::document::document;
use crate::http::wire::{Problem, json, moved, respond, show};
use crate::pool::Settings;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const RAPIDOC: &[u8] = include_bytes!("rapidoc/rapidoc-min.js");
const RAPIDOC_GZIP: &[u8] = include_bytes!("rapidoc/rapidoc-min.js.gz");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The content security policy of the page: it may run its two scripts and send requests to this server.
/// `RapiDoc` writes its styles into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; require-trusted-types-for 'script'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// The document, with the limits of this server, and a page that shows it.
pub(in crate::http) fn routes<T: Clone + Send + Sync + 'static>(settings: Settings) -> Router<T> {
    let document = Bytes::from(document(settings).to_pretty_json().expect("strings and numbers"));
    let document = get(async move || json(StatusCode::OK, document));
    Router::new()
        .route("/openapi.json", show(document))
        .route("/docs", show(get(async || moved("docs/"))))
        .route("/docs/", show(get(async || page())))
        .route("/docs/{*path}", show(get(script)))
}

/// The page. It contains no data.
fn page() -> Response {
    let mut response = file("text/html; charset=utf-8", PAGE.as_bytes());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A script of the page.
async fn script(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    match path.as_ref().map(|path| path.as_str()) {
        Ok("page.js") => file(JAVASCRIPT, SCRIPT.as_bytes()),
        Ok("rapidoc-min.js") => {
            let is_gzip = accepts_gzip(&headers);
            let mut response = file(JAVASCRIPT, if is_gzip { RAPIDOC_GZIP } else { RAPIDOC });
            let headers = response.headers_mut();
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
            if is_gzip {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        _ => Problem::NoSuchPath.response(),
    }
}

/// A file that is part of the program. Slow clients share its bytes.
fn file(content_type: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = respond(StatusCode::OK, content_type, Bytes::from_static(bytes).into());
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether a client accepts gzip (RFC 9110, section 12.5.3). `*` means all codings that are not named.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let fields =
        headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in fields.flat_map(|field| field.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches(['q', 'Q']).trim_start_matches('=');
        let is_accepted = weight.parse::<f32>().map_or(true, |weight| weight > 0.0);
        match name.trim() {
            "*" => any = is_accepted,
            name if name.eq_ignore_ascii_case("gzip") => return is_accepted,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_clients_that_accept_it() {
        for (fields, expected) in [
            (&[][..], false),
            (&[""], false),
            (&["gzip, deflate, br"], true),
            (&["br;q=1.0, GZIP;q=0.001"], true),
            (&["br", "gzip"], true),
            (&["identity"], false),
            (&["gzip;q=0"], false),
            (&["*, gzip; q=0.000"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["br;q=0, *;q=0.5"], true),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(field));
            }
            assert_eq!(accepts_gzip(&headers), expected, "{fields:?}");
        }
    }
}
