//! `/dashboard`: a page that shows the server live.

use axum::body::Bytes;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};

use crate::http::wire::respond;

macro_rules! style {
    () => {
        include_str!("dashboard/style.css")
    };
}

/// The parts of the script, in the order in which they need one another.
macro_rules! script {
    () => {
        concat!(
            include_str!("dashboard/text.js"),
            include_str!("dashboard/shown.js"),
            include_str!("dashboard/charts.js"),
            include_str!("dashboard/draw.js"),
            include_str!("dashboard/requests.js"),
            include_str!("dashboard/stream.js"),
            include_str!("dashboard/keys.js"),
            include_str!("dashboard/pools.js"),
            include_str!("dashboard/list.js"),
            include_str!("dashboard/import.js"),
            include_str!("dashboard/start.js"),
        )
    };
}

const PAGE: &str = concat!(
    include_str!("dashboard/head.html"),
    "<style>",
    style!(),
    "</style>\n",
    include_str!("dashboard/body.html"),
    "<script>",
    script!(),
    "</script>\n</body>\n</html>\n",
);

/// `GET /dashboard`: the page. It contains no data.
pub(in crate::http) fn page(policy: HeaderValue) -> Response {
    let page = Bytes::from_static(PAGE.as_bytes());
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", page.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The content security policy of the page: it may run its own script and send requests to this server.
pub(in crate::http) fn policy() -> HeaderValue {
    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; \
         require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(script!()),
        hash(style!())
    );
    HeaderValue::try_from(policy).expect("it is ASCII")
}
