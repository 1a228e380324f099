//! The API over a store that cannot be reached: no failure is taken for an answer.

use std::collections::HashSet;

use token_orchestrator::http::ServeOptions;
use token_orchestrator::store::{Memory, Options, Store, StoreExt};
use token_orchestrator::time::ManualClock;

use crate::client::{Answer, Client, Server, clock};
use crate::events::Events;
use crate::fakes::{Delayed, Failing, RETRY_AFTER_MS};
use crate::operators::metrics;

const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";
const TWO: &str = r#"{"keyIds":["936da01f-9abd-4d9d-80c7-02af85c822a8",
    "936da01f-9abd-4d9d-80c7-02af85c822a9"]}"#;

/// Each route that asks the store, in each of its forms.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("POST", "/keys", ""),
    ("POST", "/keys", r#"{"count":3}"#),
    ("POST", "/keys", r#"{"keys":[{"value":"a"}]}"#),
    ("DELETE", "/leases?holder=a", ""),
    ("POST", "/keys", r#"{"count":1000}"#),
    ("GET", "/keys", ""),
    ("GET", "/keys?lease=1s", ""),
    ("GET", "/keys?wait=1s", ""),
    ("GET", "/keys?count=5", ""),
    ("GET", "/keys?count=500&wait=1s", ""),
    ("PUT", "/keys", TWO),
    ("GET", "/keys/{id}", ""),
    ("POST", "/leases", ""),
    ("POST", "/leases?wait=1s", ""),
    ("HEAD", "/keys/{id}", ""),
    ("PUT", "/keys/{id}", ""),
    ("PUT", "/keys/{id}?cooldown=1s", ""),
    ("DELETE", "/keys/{id}", ""),
    ("PUT", "/keys/{id}/lease", ""),
    ("PUT", "/keys/{id}/lease?lease=1s", ""),
    ("PUT", "/keepalive/{id}", ""),
    ("PUT", "/keepalive", TWO),
    ("GET", "/stats", ""),
    ("GET", "/readyz", ""),
    ("GET", "/pools", ""),
    ("GET", "/pools/{pool}", ""),
    ("PUT", "/pools/{pool}", ""),
    ("DELETE", "/pools/{pool}", ""),
    ("GET", "/pools/{pool}/inventory", ""),
];

/// The same for a pool that the path names.
fn requests() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let is_of_keys = |path: &str| !path.starts_with("/pools") && path != "/readyz";
    let of_keys = REQUESTS.iter().filter(move |(_, path, _)| is_of_keys(path));
    let named =
        of_keys.map(|(method, path, body)| (*method, format!("/pools/{{pool}}{path}"), *body));
    REQUESTS.iter().map(|(method, path, body)| (*method, (*path).to_owned(), *body)).chain(named)
}

fn memory() -> (Memory<ManualClock>, ManualClock) {
    let clock = clock();
    (Memory::new(Options::default(), clock.clone()), clock)
}

async fn serve<S: Store + Clone>(store: S, clock: ManualClock) -> Server<S> {
    Server::over(store, clock, ServeOptions::default()).await
}

fn assert_unavailable(answer: &Answer, method: &str, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    let after_s = RETRY_AFTER_MS.div_ceil(1000).to_string();
    assert_eq!(answer.header("retry-after"), Some(&*after_s), "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    if method != "HEAD" {
        assert_eq!(answer.json()["type"], "/problems/unavailable", "{what}");
    }
}

/// Asks for everything, by the hot path where it goes and by the router.
async fn all_is_unavailable<S: Store + Clone>(server: &Server<S>) {
    for fields in ["", "Connection: x\r\n"] {
        let mut client = server.connect().await;
        for (method, path, body) in requests() {
            let path = path.replace("{id}", ID).replace("{pool}", "default");
            let length = match body.len() {
                0 => String::new(),
                length => format!("Content-Length: {length}\r\n"),
            };
            let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n");
            client.write(&format!("{head}{body}")).await;
            let answer = client.read(method).await;
            assert_unavailable(&answer, method, &format!("{method} {path} {fields}"));
        }
    }
}

#[tokio::test]
async fn no_route_takes_a_failure_for_an_answer() {
    let (store, clock) = memory();
    let server = serve(Failing::new(store), clock).await;
    all_is_unavailable(&server).await;
    // None is forgotten.
    let document = server.send("GET", "/openapi.json", "").await.json();
    let tried: HashSet<_> = requests()
        .map(|(method, path, _)| {
            (method.to_lowercase(), path.split('?').next().unwrap().to_owned())
        })
        .collect();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            assert!(
                tried.contains(&(method.clone(), path.clone())),
                "{method} {path} is not tried"
            );
        }
    }
}

#[tokio::test]
async fn no_route_takes_a_late_failure_for_an_answer() {
    let (store, clock) = memory();
    all_is_unavailable(&serve(Delayed::new(Failing::new(store)), clock).await).await;
}

#[tokio::test]
async fn a_pipeline_goes_on_after_a_failure() {
    let (store, clock) = memory();
    let store = Failing::after(store, 3);
    let server = serve(store.clone(), clock).await;
    let id = server.create().await;
    let mut client = server.connect().await;
    client.write(&format!("GET /keys/{id} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(4)).await;
    for status in [200, 200, 503, 503] {
        let answer = client.read("GET").await;
        assert_eq!(answer.status, status);
        if status == 503 {
            assert_unavailable(&answer, "GET", "a pipeline");
        }
    }
    store.recover();
    assert_eq!(client.send("GET", &format!("/keys/{id}"), "").await.status, 200);
}

/// Keys that the store did not answer for are not missing.
#[tokio::test]
async fn a_batch_that_fails_in_part_is_no_success() {
    for path in ["/keys", "/keepalive"] {
        let (store, clock) = memory();
        let store = Failing::after(store, 3);
        let server = serve(store.clone(), clock).await;
        let ids = [server.create().await, server.create().await];
        let body = format!(r#"{{"keyIds":["{}","{}"]}}"#, ids[0], ids[1]);
        assert_unavailable(&server.send("PUT", path, &body).await, "PUT", path);
        store.recover();
        let answer = server.send("PUT", path, &body).await;
        assert_eq!((answer.status, &*answer.body), (200, r#"{"missing":[]}"#));
    }
}

/// Leases that were given before the failure are not lost to all.
#[tokio::test]
async fn leases_before_a_failure_are_answered() {
    let (store, clock) = memory();
    let store = Failing::after(store, 4);
    let server = serve(store.clone(), clock).await;
    for _ in 0..2 {
        server.create().await;
    }
    let answer = server.send("GET", "/keys?count=5", "").await;
    assert_eq!((answer.status, answer.json()["keys"].as_array().unwrap().len()), (200, 2));
    store.recover();
    assert_eq!(store.stats().await.unwrap().leased, 2);
}

#[tokio::test]
async fn operators_are_served_while_the_store_fails() {
    let (store, clock) = memory();
    let store = Failing::new(store);
    let server = serve(store.clone(), clock).await;
    let mut client = server.connect().await;
    assert_eq!(client.send("GET", "/keys", "").await.status, 503);
    assert_eq!(client.send("GET", "/healthz", "").await.status, 200);
    assert_unavailable(&client.send("GET", "/readyz", "").await, "GET", "readyz");
    let seen = metrics(&mut client).await;
    let refused = "token_orchestrator_http_requests_total\
        {method=\"GET\",route=\"/keys\",status=\"503\"}";
    assert_eq!((&*seen[refused], &*seen["token_orchestrator_ready"]), ("1", "1"));
    assert!(!seen.keys().any(|name| name.starts_with("token_orchestrator_keys")), "{seen:?}");
    // The page sees no sample before the store is back.
    let mut events = Events::of(Client::to(server.address()).await).await;
    assert_eq!(events.next().await.unwrap().0, "hello");
    assert_eq!(events.next().await.unwrap(), ("history".to_owned(), serde_json::json!([])));
    store.recover();
    assert_eq!(events.next().await.unwrap().0, "sample");
    assert_eq!(client.send("GET", "/readyz", "").await.status, 200);
}
