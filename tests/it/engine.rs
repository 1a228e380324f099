//! An engine for the store that many servers share: `redis-server`, on a free port, until the tests end.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

/// A running engine.
pub(crate) struct Engine {
    port: u16,
    directory: PathBuf,
    process: Child,
}

impl Engine {
    fn start() -> Self {
        // Another program may take the port meanwhile: then the next one is tried.
        for _ in 0..10 {
            let port =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let directory =
                std::env::temp_dir().join(format!("engine-{}-{port}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let process = Command::new("setpriv")
                .args([
                    "--pdeathsig",
                    "KILL",
                    "redis-server",
                    "--save",
                    "",
                    "--port",
                    &port.to_string(),
                    "--dir",
                ])
                .arg(&directory)
                .stdout(Stdio::null())
                .spawn();
            let mut engine = Self {
                port,
                directory,
                process: process.expect("redis-server is installed by tests/run"),
            };
            if engine.is_up() {
                return engine;
            }
        }
        panic!("redis-server does not start");
    }

    fn is_up(&mut self) -> bool {
        for _ in 0..1000 {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The engine that all tests of this process share.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        // It is killed when the thread ends that has started it: this one never does.
        thread::spawn(move || {
            sender.send(Engine::start()).unwrap();
            loop {
                thread::park();
            }
        });
        receiver.recv().expect("redis-server starts")
    })
}
