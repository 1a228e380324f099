//! What operators see: metrics, probes, the page's events, an address of their own, the log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use token_orchestrator::http::{self, Listeners, ServeOptions};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Memory, Options, StoreExt};
use token_orchestrator::time::ManualClock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cli::{binary, request, signal};
use crate::client::{Client, Server};
use crate::events::Events;
use crate::paths::SLOW;
use crate::pools::put;

/// Each line of the metrics without its value, and the value.
pub(crate) async fn metrics<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
) -> BTreeMap<String, String> {
    let answer = client.send("GET", "/metrics", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

fn requests(method: &str, route: &str, status: u16) -> String {
    format!(
        "token_orchestrator_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
    )
}

#[tokio::test]
async fn metrics_count_each_request_by_whichever_path_it_came() {
    let server = Server::default().await;
    let mut other = server.connect().await;
    for _ in 0..3 {
        server.create().await;
    }
    let mut hot = server.connect().await;
    // In one go, so that leases are given in a group.
    hot.write(&"GET /keys HTTP/1.1\r\nHost: test\r\n\r\n".repeat(5)).await;
    let mut ids = Vec::new();
    for status in [200, 200, 200, 404, 404] {
        let answer = hot.read("GET").await;
        assert_eq!(answer.status, status);
        ids.extend(answer.json()["keyId"].as_str().map(str::to_owned));
    }
    for method in ["GET", "PUT", "PUT", "DELETE", "DELETE"] {
        hot.send(method, &format!("/keys/{}", ids[0]), "").await;
    }
    hot.send("PUT", &format!("/keepalive/{}", ids[1]), "").await;
    // By the router.
    other.send("GET", &format!("/keys/{}?", ids[1]), "").await;
    other.send("PUT", &format!("/keys/{}?cooldown=1m", ids[1]), "").await;
    other.send("GET", "/keys?wait=zero", "").await;
    other.send("BREW", "/coffee", "").await;
    let seen = metrics(&mut other).await;
    for (method, route, status, count) in [
        ("POST", "/keys", 201, "3"),
        ("GET", "/keys", 200, "3"),
        ("GET", "/keys", 404, "2"),
        ("GET", "/keys?wait", 400, "1"),
        ("GET", "/keys/{id}", 200, "2"),
        ("PUT", "/keys/{id}", 200, "3"),
        ("DELETE", "/keys/{id}", 200, "1"),
        ("DELETE", "/keys/{id}", 404, "1"),
        ("PUT", "/keepalive/{id}", 200, "1"),
        ("other", "other", 404, "1"),
    ] {
        assert_eq!(seen[&requests(method, route, status)], count, "{method} {route}");
    }
    for (name, value) in [
        ("keys{pool=\"default\",state=\"free\"}", "0"),
        ("keys{pool=\"default\",state=\"blocked\"}", "1"),
        ("keys{pool=\"default\",state=\"cooling\"}", "1"),
        ("keys_max{pool=\"default\"}", "10000000"),
        ("keys_created_total{pool=\"default\"}", "3"),
        ("keys_deleted_total{pool=\"default\"}", "1"),
        ("leases_total{pool=\"default\",granted=\"at_once\"}", "3"),
        ("leases_total{pool=\"default\",granted=\"after_waiting\"}", "0"),
        ("lease_empty_total{pool=\"default\"}", "2"),
        ("leases_released_total{pool=\"default\"}", "2"),
        ("sweep_lag_seconds", "0"),
        ("index_entries{pool=\"default\",index=\"lives\"}", "2"),
        ("value_bytes", "0"),
        ("value_bytes_max", "1073741824"),
        ("ready", "1"),
        ("build_info{version=\"0.1.0\"}", "1"),
    ] {
        assert_eq!(seen[&format!("token_orchestrator_{name}")], value, "{name}");
    }
    assert!(seen["process_resident_memory_bytes"].parse::<f64>().unwrap() > 1e6);
    let labels = "method=\"GET\",route=\"/keys\"";
    let name = "token_orchestrator_http_request_duration_seconds";
    assert_eq!(seen[&format!("{name}_count{{{labels}}}")], "5");
    assert_eq!(seen[&format!("{name}_bucket{{{labels},le=\"+Inf\"}}")], "5");
    let sum: f64 = seen[&format!("{name}_sum{{{labels}}}")].parse().unwrap();
    assert!(sum > 0.0 && sum < 300.0, "{sum}");
}

#[tokio::test]
async fn each_pool_has_metrics_of_its_own() {
    let server = Server::default().await;
    let mut client = server.connect().await;
    for pool in ["a", "b"] {
        put(&server, pool, "").await;
    }
    client.send("POST", "/pools/a/keys", r#"{"keys":[{"value":"sk-12345"}]}"#).await;
    // On both paths, and by each way to lease.
    for (method, target, fields) in [
        ("GET", "/pools/a/keys", ""),
        ("GET", "/pools/a/keys", ""),
        ("GET", "/pools/a/keys", SLOW),
        ("GET", "/pools/b/keys?count=2", ""),
        ("GET", "/pools/b/keys?lease=5s", ""),
        ("POST", "/pools/b/leases", ""),
        ("POST", "/pools/b/leases", SLOW),
        ("GET", "/keys", SLOW),
        // These look for no key.
        ("GET", "/pools/c/keys", ""),
        ("GET", "/pools/b/keys?count=0", ""),
    ] {
        client.ask(method, target, fields).await;
    }
    let seen = metrics(&mut client).await;
    let value = |name: &str, pool: &str| {
        seen.get(&format!("token_orchestrator_{name}{{pool=\"{pool}\"}}")).map(String::as_str)
    };
    let empty = ["default", "a", "b", "c"].map(|pool| value("lease_empty_total", pool));
    assert_eq!(empty, [Some("1"), Some("2"), Some("4"), None]);
    let created = ["default", "a", "b", "c"].map(|pool| value("keys_created_total", pool));
    assert_eq!(created, [Some("0"), Some("1"), Some("0"), None]);
    assert_eq!(seen["token_orchestrator_keys{pool=\"a\",state=\"blocked\"}"], "1");
    assert_eq!(seen["token_orchestrator_free_hints{pool=\"b\",state=\"live\"}"], "0");
    assert_eq!(seen["token_orchestrator_value_bytes"], "8");
    // They go with their pool, and begin anew with the next one of this name.
    client.send("DELETE", "/pools/a?keys=delete", "").await;
    client.send("DELETE", "/pools/b", "").await;
    put(&server, "b", "").await;
    let seen = metrics(&mut client).await;
    let of =
        |pool: &str| seen.keys().filter(|name| name.contains(&format!("pool=\"{pool}\""))).count();
    assert_eq!(["default", "a", "b"].map(of), [19, 0, 19]);
    assert_eq!(seen["token_orchestrator_lease_empty_total{pool=\"b\"}"], "0");
}

#[tokio::test]
async fn each_metric_has_a_help_and_a_type() {
    let server = Server::default().await;
    server.create().await;
    let text = server.send("GET", "/metrics", "").await.body;
    let mut described = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 5 && help.trim() == help, "{line}");
            described.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next(), described.last().copied());
        } else {
            let name = described.last().unwrap();
            assert!(line.starts_with(name), "{line} is not of {name}");
        }
    }
    assert!(described.len() >= 25, "{described:?}");
}

#[tokio::test]
async fn leases_of_those_who_wait_and_lag_are_counted() {
    let options = Options {
        settings: Settings { keys_max: 10, ..Settings::default() },
        ..Options::default()
    };
    let server = Server::unswept(options, ServeOptions::default()).await;
    let mut waiting = server.connect().await;
    waiting.write("GET /keys?wait=10s HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let mut client = server.connect().await;
    while metrics(&mut client).await["token_orchestrator_waiters{pool=\"default\"}"] == "0" {}
    server.create().await;
    assert_eq!(waiting.read("GET").await.status, 200);
    let seen = metrics(&mut client).await;
    assert_eq!(
        seen["token_orchestrator_leases_total{pool=\"default\",granted=\"after_waiting\"}"],
        "1"
    );
    assert_eq!(seen["token_orchestrator_leases_total{pool=\"default\",granted=\"at_once\"}"], "0");
    // Nothing sweeps here: the lease is over for 2.5 s already.
    server.clock.advance_ms(62_500);
    let seen = metrics(&mut client).await;
    assert_eq!(seen["token_orchestrator_sweep_lag_seconds"], "2.5");
}

/// A server with an address for operators.
struct Two {
    main: SocketAddr,
    admin: SocketAddr,
    store: Memory<ManualClock>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Two {
    async fn start(options: ServeOptions) -> Self {
        let store = Memory::new(Options::default(), ManualClock::default());
        let main = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [main.local_addr().unwrap(), admin.local_addr().unwrap()];
        let (stop, stopped) = oneshot::channel();
        let listeners = Listeners { main, admin: Some(admin) };
        let served = http::serve(listeners, Arc::new(store.clone()), options, async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async { served.await.unwrap() });
        Self { main: addresses[0], admin: addresses[1], store, stop, task }
    }
}

fn connections(address: &str) -> String {
    format!("token_orchestrator_connections{{address=\"{address}\"}}")
}

const FOR_OPERATORS: [&str; 7] = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/dashboard",
    "/dashboard/events",
    "/openapi.json",
    "/docs/",
];

#[tokio::test]
async fn operators_have_an_address_of_their_own() {
    let server = Two::start(ServeOptions { connections_max: 2, ..Default::default() }).await;
    // However many others there are.
    let mut crowd = vec![Client::to(server.main).await, Client::to(server.main).await];
    for client in &mut crowd {
        assert_eq!(client.send("GET", "/stats", "").await.status, 200);
    }
    for path in FOR_OPERATORS {
        let answer = crowd[0].send("GET", path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["type"], "/problems/no-such-path", "{path}");
        assert_eq!(
            Client::to(server.admin).await.send("HEAD", path, "").await.status,
            200,
            "{path}"
        );
    }
    let mut client = Client::to(server.admin).await;
    assert_eq!(client.send("POST", "/keys", "").await.status, 201);
    assert_eq!(server.store.stats().await.unwrap().keys, 1);
    assert_eq!(metrics(&mut client).await[&connections("main")], "2");
    assert_eq!(
        metrics(&mut client).await["token_orchestrator_connections_max{address=\"main\"}"],
        "2"
    );
}

#[tokio::test]
async fn probes_are_told_of_a_stop_before_and_while_requests_end() {
    let drain_delay = Duration::from_hours(1);
    let server = Two::start(ServeOptions { drain_delay, ..Default::default() }).await;
    let mut operator = Client::to(server.admin).await;
    assert_eq!(operator.send("GET", "/readyz", "").await.status, 200);
    let mut client = Client::to(server.main).await;
    server.stop.send(()).unwrap();
    while operator.send("GET", "/readyz", "").await.status == 200 {}
    let answer = operator.send("GET", "/readyz", "").await;
    assert_eq!((answer.status, &answer.json()["type"]), (503, &"/problems/stopping".into()));
    assert_eq!(operator.send("GET", "/healthz", "").await.status, 200);
    assert_eq!(metrics(&mut operator).await["token_orchestrator_ready"], "0");
    // Requests are still answered, also those of connections that come now.
    assert_eq!(client.send("GET", "/stats", "").await.status, 200);
    assert_eq!(Client::to(server.main).await.send("GET", "/keys", "").await.status, 404);
    server.task.abort();
}

#[tokio::test]
async fn operators_are_heard_while_requests_in_flight_end() {
    let server = Two::start(ServeOptions::default()).await;
    let mut slow = Client::to(server.main).await;
    slow.write("POST /keys HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{").await;
    let mut operator = Client::to(server.admin).await;
    while metrics(&mut operator).await[&connections("main")] != "1" {}
    let mut viewer = Events::of(Client::to(server.admin).await).await;
    server.stop.send(()).unwrap();
    while operator.send("GET", "/readyz", "").await.status == 200 {}
    assert_eq!(Client::to(server.admin).await.send("GET", "/healthz", "").await.status, 200);
    // Who watches goes on, and others may begin.
    for viewer in [&mut viewer, &mut Events::of(Client::to(server.admin).await).await] {
        while viewer.next().await.expect("a sample").0 != "sample" {}
    }
    slow.write("}").await;
    assert_eq!(slow.read("POST").await.status, 201);
    while viewer.next().await.is_some() {}
    server.task.await.unwrap();
    assert!(operator.is_closed().await);
}

#[tokio::test]
async fn a_burst_of_operators_loses_no_connection() {
    let server = Two::start(ServeOptions::default()).await;
    for _ in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..150 {
            let mut client = Client::to(server.admin).await;
            client.write("GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
            clients.push(client);
        }
        for client in &mut clients {
            assert_eq!(client.read("GET").await.status, 200);
        }
    }
}

#[test]
fn requests_are_logged_at_debug_only_and_keys_by_their_beginning() {
    for (level, format) in [("info", "human"), ("debug", "human"), ("debug", "json")] {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--log-format", format]).env("RUST_LOG", level);
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(log)).map(Result::unwrap);
        let first = lines.find(|line| line.contains("listening on http://")).unwrap();
        let address = first.split("listening on http://").nth(1).unwrap();
        let address = address.split('"').next().unwrap();
        let created = request(address, "POST", "/keys");
        let id =
            created.split("\"keyId\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        // One by each path.
        assert!(request(address, "GET", "/keys").contains("200 OK"));
        assert!(request(address, "GET", &format!("/keys/{id}")).contains("200 OK"));
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!("PUT /keys/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
        signal(&child, "TERM");
        child.wait().unwrap();
        let log: Vec<_> = lines.collect();
        let answered: Vec<_> = log.iter().filter(|line| line.contains("/keys")).collect();
        assert_eq!(answered.len(), if level == "debug" { 4 } else { 0 }, "{log:#?}");
        assert!(!log.iter().any(|line| line.contains(&id)), "{log:#?}");
        if level == "debug" {
            assert_eq!(log.iter().filter(|line| line.contains(&id[..8])).count(), 2, "{log:#?}");
        }
        if format == "json" {
            let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let released = lines.filter(|line| line["method"] == "PUT").collect::<Vec<_>>();
            assert_eq!(released[0]["route"], "/keys/{id}");
            assert_eq!(released[0]["status"], 200);
        }
    }
}
