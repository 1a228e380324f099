//! The server: a process, started for one test and gone after it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::client::Client;

static MACHINE: Mutex<()> = Mutex::new(());

pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    logged: Arc<AtomicUsize>,
    /// No other test starts one before this one is gone.
    _machine: MutexGuard<'static, ()>,
}

impl Server {
    /// Starts a server with these options, on a free port, as soon as that of every other test is gone.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_with(Command::new(env!("CARGO_BIN_EXE_token-orchestrator")), options)
    }

    /// As [`Server::start`], at an address where another one was before.
    pub(crate) fn start_at(address: SocketAddr, options: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_token-orchestrator"));
        Self::start_command(command, &address.to_string(), options)
    }

    /// As [`Server::start`], by a command that ends in starting the server.
    pub(crate) fn start_with(command: Command, options: &[&str]) -> Self {
        Self::start_command(command, "127.0.0.1:0", options)
    }

    fn start_command(mut command: Command, address: &str, options: &[&str]) -> Self {
        // A failure of another test must not fail this one.
        let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_ORCHESTRATOR_"))
        {
            command.env_remove(name);
        }
        // The kernel's daemon for huge pages would make 2 MiB of each page that is left in them, whenever it
        // comes by, and memory that nothing uses be counted.
        command.env("MIMALLOC_ALLOW_THP", "0");
        command
            .args(["--listen", address, "--allowed-host", "a,test"])
            .args(options)
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.next().expect("a line that says where it listens");
        let (_, address) =
            line.split_once("listening on http://").unwrap_or_else(|| panic!("{line}"));
        let address = address.parse().unwrap();
        // What it says later is shown with the test's own output; a full pipe would stop it.
        let logged = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&logged);
        thread::spawn(move || {
            for line in lines {
                count.fetch_add(1, SeqCst);
                println!("server: {line}");
            }
        });
        Self { process, address, logged, _machine: machine }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::to(self.address)
    }

    /// Memory in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How many sockets it has open.
    pub(crate) fn sockets(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        // A file may be closed meanwhile.
        let names = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
    }

    /// How many lines it has logged since it listens.
    pub(crate) fn logged(&self) -> usize {
        self.logged.load(SeqCst)
    }

    /// How many files are open, sockets among them.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
