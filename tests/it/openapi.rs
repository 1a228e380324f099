//! The description of the API, and the page that shows it.

use std::{env, fs};

use serde_json::Value;
use token_orchestrator::http::ServeOptions;
use token_orchestrator::pool::Settings;
use token_orchestrator::store::Options;

use crate::client::{Answer, Server};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/openapi.json");

/// The description is part of the API: a change of it must be seen in a review.
/// `UPDATE_GOLDEN=1 cargo test` writes it anew.
#[tokio::test]
async fn the_description_is_the_one_that_was_agreed_on() {
    let answer = Server::default().await.send("GET", "/openapi.json", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(GOLDEN, format!("{}\n", answer.body)).unwrap();
    }
    let golden: Value = serde_json::from_str(&fs::read_to_string(GOLDEN).unwrap()).unwrap();
    assert!(answer.json() == golden, "run UPDATE_GOLDEN=1 cargo test and look at the difference");
    assert_eq!(golden["openapi"], "3.1.0");
}

/// Every path and method that the router knows is described, and nothing else.
#[tokio::test]
async fn all_routes_are_described() {
    let server = Server::default().await;
    let document = server.send("GET", "/openapi.json", "").await.json();
    let id = server.create().await;
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let described: Vec<_> =
            item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        operations += described.len();
        let answer =
            server.send("PATCH", &path.replace("{id}", &id).replace("{pool}", "default"), "").await;
        assert_eq!(answer.status, 405);
        let allowed = answer.header("allow").unwrap();
        let mut allowed: Vec<_> = allowed.split(", ").filter(|method| *method != "HEAD").collect();
        allowed.sort_unstable();
        let mut described: Vec<_> = described.iter().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(allowed, described, "{path}");
    }
    // Those of a pool are there twice, with its name and without.
    assert_eq!(operations, 2 * 12 + 5);
}

/// A reference stands alone. `OpenAPI` 3.1 allows a description beside it, but generators of clients, such as
/// that of openapi-generator for `TypeScript`, then generate code that does not compile.
#[tokio::test]
async fn nothing_stands_beside_a_reference() {
    fn look(value: &Value, found: &mut usize) {
        if let Some(object) = value.as_object()
            && object.contains_key("$ref")
        {
            assert_eq!(object.len(), 1, "{value}");
            *found += 1;
        }
        let items = value.as_array().into_iter().flatten();
        let fields = value.as_object().into_iter().flat_map(|object| object.values());
        items.chain(fields).for_each(|inner| look(inner, found));
    }
    let document = Server::default().await.send("GET", "/openapi.json", "").await.json();
    let mut found = 0;
    look(&document, &mut found);
    assert!(found > 10, "{found} references");
}

/// Limits are those of the server that is asked.
#[tokio::test]
async fn limits_are_told() {
    let settings = Settings { wait_ms_max: 50, ..Settings::default() };
    let options = Options { settings, ..Options::default() };
    let server = Server::start(options, ServeOptions::default()).await;
    let document = server.send("GET", "/openapi.json", "").await.json();
    let parameters = document["paths"]["/keys"]["get"]["parameters"].as_array().unwrap().clone();
    let wait = parameters.iter().find(|parameter| parameter["name"] == "wait").unwrap();
    assert_eq!(wait["schema"]["pattern"], "^(([1-9]|[1-4][0-9]|50)ms)$");
    assert_eq!(wait["example"], "50ms");
}

/// The page and all that it loads come from here, wherever "here" is for the browser.
#[tokio::test]
async fn the_page_needs_no_other_host() {
    let server = Server::default().await;
    let moved = server.send("GET", "/docs", "").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("docs/")));
    let page = server.send("GET", "/docs/", "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'"] {
        assert!(policy.split("; ").any(|directive| directive == part), "{policy}");
    }
    assert!(!policy.contains("script-src 'self' ") && !policy.contains("eval"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert!(page.body.contains("spec-url=\"../openapi.json\""), "{}", page.body);
    let mut loaded = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        for rest in page.body.split(attribute).skip(1) {
            let link = rest.split('"').next().unwrap();
            assert!(!link.contains("//") && !link.starts_with('/'), "{link} is elsewhere");
            if !link.starts_with("data:") && !link.starts_with("../") {
                loaded.push(link.to_owned());
            }
        }
    }
    assert_eq!(loaded, ["page.js", "rapidoc-min.js"]);
    for name in loaded {
        let file = server.send("GET", &format!("/docs/{name}"), "").await;
        assert!(file.status == 200 && !file.body.is_empty(), "{name}");
        assert_eq!(file.header("content-type"), Some("text/javascript; charset=utf-8"), "{name}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"), "{name}");
    }
    assert_eq!(server.send("GET", "/docs/nothing", "").await.status, 404);
    assert_eq!(server.send("GET", "/docs/%ff", "").await.status, 404);
    assert_eq!(server.send("POST", "/docs/", "").await.status, 405);
}

/// Both pages are guarded alike: only which scripts and styles they may use differs.
#[tokio::test]
async fn the_page_is_guarded_like_the_dashboard() {
    let server = Server::default().await;
    let (docs, dashboard) =
        (server.send("GET", "/docs/", "").await, server.send("GET", "/dashboard", "").await);
    for name in ["referrer-policy", "x-content-type-options", "cache-control"] {
        assert!(dashboard.header(name).is_some(), "{name}");
        assert_eq!(docs.header(name), dashboard.header(name), "{name}");
    }
    let directives = |answer: &Answer| {
        let policy = answer.header("content-security-policy").unwrap();
        let shared =
            |directive: &str| !directive.starts_with("script") && !directive.starts_with("style");
        let mut all: Vec<_> =
            policy.split("; ").filter(|one| shared(one)).map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(directives(&docs), directives(&dashboard));
}

/// A browser takes a quarter of the bytes.
#[tokio::test]
async fn the_large_script_is_compressed_for_those_who_take_that() {
    let server = Server::default().await;
    let path = "/docs/rapidoc-min.js";
    let mut client = server.connect().await;
    let plain = client.ask("HEAD", path, "Accept-Encoding: gzip;q=0\r\n").await;
    let gzip = client.ask("HEAD", path, "Accept-Encoding: gzip, br\r\n").await;
    for (answer, encoding) in [(&plain, None), (&gzip, Some("gzip"))] {
        assert_eq!((answer.status, answer.header("content-encoding")), (200, encoding));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    let length =
        |answer: &Answer| answer.header("content-length").unwrap().parse::<usize>().unwrap();
    assert!(length(&gzip) * 3 < length(&plain) && length(&gzip) > 100_000, "{gzip:?}");
}
