//! What a service manager, such as systemd, is told; and that it is told nothing while a thread hangs.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use token_orchestrator::http::{Heartbeat, ServeOptions};
use token_orchestrator::store::{Memory, Options};

use crate::certificates::Files;
use crate::cli::{Started, binary, request, signal, start};
use crate::client::{self, clock, until};
use crate::connections::begin_creation;
use crate::fakes::Stuck;

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    /// On a path, or with an abstract name.
    fn new(is_abstract: bool) -> Self {
        static SOCKETS: AtomicUsize = AtomicUsize::new(0);
        let number = SOCKETS.fetch_add(1, SeqCst);
        // Not in the folder of the tests, as a socket's path must be short.
        let path = std::env::temp_dir().join(format!("notify-{}-{number}", std::process::id()));
        let path = path.to_str().unwrap().to_owned();
        let _ = fs::remove_file(&path);
        let (socket, name) = if is_abstract {
            let address = SocketAddr::from_abstract_name(&path).unwrap();
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{path}"))
        } else {
            (UnixDatagram::bind(&path).unwrap(), path)
        };
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, name }
    }

    fn serve(&self, command: &mut Command) -> (Started, String) {
        command.args(["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", &self.name);
        let (child, address, lines) = start(command);
        std::thread::spawn(move || lines.for_each(drop));
        (child, address)
    }

    /// The next message.
    fn hear(&self) -> String {
        let mut buffer = [0; 1000];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.name);
    }
}

fn monotonic_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

#[test]
fn the_manager_is_told_of_the_start_a_reload_and_the_stop() {
    for is_abstract in [false, true] {
        let (manager, files) = (Manager::new(is_abstract), Files::new());
        let (mut child, address) = manager.serve(binary().args(files.options()));
        let status = format!("STATUS=Serving https://{address}");
        assert_eq!(manager.hear(), format!("READY=1\nWATCHDOG=1\n{status}"));
        // As soon as it is told, it is true.
        TcpStream::connect(&address).unwrap();
        for (key, then) in
            [(None, ""), (Some("no key"), "; the last reload kept the previous certificate")]
        {
            if let Some(key) = key {
                files.write("key.pem", key);
            }
            let before = monotonic_us();
            signal(&child, "HUP");
            let told = manager.hear();
            let us = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            let us = us.strip_suffix("\nSTATUS=Reloading").unwrap().parse().unwrap();
            assert!((before..=monotonic_us()).contains(&us), "{us}");
            assert_eq!(manager.hear(), format!("READY=1\n{status}{then}"));
        }
        signal(&child, "TERM");
        assert!(manager.hear().starts_with("STOPPING=1\nSTATUS=Stopping"));
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_watchdog_is_fed_as_often_as_it_wants_also_while_the_server_drains() {
    let manager = Manager::new(false);
    let mut command = binary();
    command.args(["--drain-delay", "1h"]).env("WATCHDOG_USEC", "20000");
    let (mut child, _) = manager.serve(&mut command);
    assert!(manager.hear().starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1");
    }
    signal(&child, "TERM");
    while !manager.hear().starts_with("STOPPING=1\n") {}
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// It is meant for another process, or is none.
#[test]
fn a_watchdog_that_does_not_wait_for_this_process_is_not_fed() {
    for (us, pid) in [("1000", Some("1")), ("0", None), ("soon", None)] {
        let manager = Manager::new(false);
        let mut command = binary();
        command.env("WATCHDOG_USEC", us).envs(pid.map(|pid| ("WATCHDOG_PID", pid)));
        let (mut child, address) = manager.serve(&mut command);
        assert!(manager.hear().starts_with("READY=1\n"));
        assert!(request(&address, "GET", "/healthz").contains(" 200 "));
        signal(&child, "TERM");
        assert!(manager.hear().starts_with("STOPPING=1\n"));
        child.wait().unwrap();
    }
}

#[test]
fn a_manager_that_does_not_listen_keeps_nobody_waiting() {
    for (name, is_there) in [("/nowhere", false), ("vsock:2:1", false), ("", false), ("", true)] {
        // One that is there but never reads, so its queue is full.
        let manager = Manager::new(false);
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        while is_there && other.send_to(b"x", &manager.name).is_ok() {}
        let name = if is_there { manager.name.as_str() } else { name };
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "2");
        let (mut child, address, lines) = start(&mut command);
        let log = std::thread::spawn(move || lines.collect::<Vec<_>>());
        for _ in 0..20 {
            assert!(request(&address, "GET", "/healthz").contains(" 200 "));
        }
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let log = log.join().unwrap();
        let is_told = log.iter().any(|line| line.contains("NOTIFY_SOCKET"));
        assert_eq!(is_told, !name.is_empty(), "{name}: {log:?}");
        manager.socket.set_nonblocking(true).unwrap();
        let heard = manager.socket.recv(&mut [0; 100]).map_err(|error| error.kind());
        assert!(is_there == heard.is_ok() && (is_there || heard == Err(ErrorKind::WouldBlock)));
    }
}

/// A thread of either kind hangs: that of the hot path, and that of hyper, which takes the second request.
#[tokio::test]
async fn the_heart_stands_still_while_a_thread_hangs() {
    for field in ["", "Connection: x\r\n"] {
        let store = Stuck::new(Memory::new(Options::default(), clock()));
        let beats = Arc::new(AtomicUsize::default());
        let count = || beats.load(SeqCst);
        let counted = Arc::clone(&beats);
        let heartbeat: Heartbeat = Arc::new(move || {
            counted.fetch_add(1, SeqCst);
            Some(Duration::from_millis(1))
        });
        let options = ServeOptions { heartbeat: Some(heartbeat), ..ServeOptions::default() };
        let server = client::Server::over(store.clone(), clock(), options).await;
        let goes_on = async || {
            let before = count();
            until("a beat", async || count() > before + 3).await;
        };
        goes_on().await;
        let mut client = server.connect().await;
        store.set_hangs(true);
        client.write(&format!("GET /keys HTTP/1.1\r\nHost: a\r\n{field}\r\n")).await;
        until("a thread that hangs", async || store.hanging() > 0).await;
        // One may have been felt before.
        let before = count() + 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(count() <= before, "{} beats", count() - before);
        store.set_hangs(false);
        assert_eq!(client.read("GET").await.status, 404);
        goes_on().await;
        let mut busy = server.connect().await;
        begin_creation(&mut busy).await;
        let ended = server.stop();
        goes_on().await;
        busy.write("{\"count\":7}").await;
        assert_eq!(busy.read("POST").await.status, 201);
        ended.await.unwrap();
    }
}
