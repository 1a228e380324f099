//! The server: a process, started for one test and gone after it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;

static MACHINE: Mutex<()> = Mutex::new(());

/// How long a start may take, and an end that nobody waits for.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    /// No other test starts one before this one is gone, but those that do not mind.
    _machine: Option<MutexGuard<'static, ()>>,
}

/// The program of the server.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_token-orchestrator"))
}

impl Server {
    /// Starts a server with these options, on a free port, as soon as that of every other test is gone.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_with(program(), options)
    }

    /// As [`Server::start`], at an address where another one was before, or may be later.
    pub(crate) fn start_at(address: SocketAddr, options: &[&str]) -> Self {
        Self::start_command(program(), address, options)
    }

    /// As [`Server::start`], by a command that ends in starting the server.
    pub(crate) fn start_with(command: Command, options: &[&str]) -> Self {
        Self::start_command(command, SocketAddr::from(([127, 0, 0, 1], 0)), options)
    }

    fn start_command(command: Command, address: SocketAddr, options: &[&str]) -> Self {
        // A failure of another test must not fail this one.
        let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let process = Process::spawn(command, address, options);
        let address = process.listens();
        Self { process, address, _machine: Some(machine) }
    }

    /// Starts one on a free port, beside any others: for a test that does not mind those of other tests.
    pub(crate) fn start_beside(options: &[&str]) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let process = Process::spawn(program(), any, options);
        let address = process.listens();
        Self { process, address, _machine: None }
    }

    /// Starts it once more, at the same address, after it has ended. No other test comes in between.
    pub(crate) fn start_again(&mut self, command: Command, options: &[&str]) {
        self.spawn_again(command, options);
        assert_eq!(self.process.listens(), self.address);
    }

    /// As [`Server::start_again`], without waiting until it listens.
    pub(crate) fn spawn_again(&mut self, command: Command, options: &[&str]) {
        assert!(self.process.child.try_wait().unwrap().is_some(), "it is still running");
        self.process = Process::spawn(command, self.address, options);
    }

    /// Kills it by SIGKILL. When this returns, it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
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
        let said = self.said();
        let listening = said.iter().position(|line| line.contains(LISTENING));
        listening.map_or(0, |at| said.len() - at - 1)
    }

    /// All that it has logged since its last start.
    pub(crate) fn said(&self) -> Vec<String> {
        self.process.said.lines.lock().unwrap().clone()
    }

    /// Waits until it has logged a line with this text.
    pub(crate) fn await_line(&self, text: &str) -> String {
        self.process.await_line(text)
    }

    /// Waits until all is read that a process has said that has ended.
    pub(crate) fn await_end_of_log(&self) {
        let give_up = Instant::now() + PATIENCE;
        while !self.process.said.is_over.load(SeqCst) {
            assert!(Instant::now() < give_up, "the log of the server has no end");
            thread::sleep(Duration::from_millis(1));
        }
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
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "the server does not end: {:?}", self.said());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a server says when it listens, ahead of the address.
const LISTENING: &str = "listening on http://";

/// One run of the program.
struct Process {
    child: Child,
    said: Arc<Said>,
}

/// What it says.
#[derive(Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Process {
    fn spawn(mut command: Command, address: SocketAddr, options: &[&str]) -> Self {
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_ORCHESTRATOR_"))
        {
            command.env_remove(name);
        }
        // The kernel's daemon for huge pages would make 2 MiB of each page that is left in them, whenever it
        // comes by, and memory that nothing uses be counted.
        command.env("MIMALLOC_ALLOW_THP", "0");
        command
            .args(["--listen", &address.to_string(), "--allowed-host", "a,test"])
            .args(options)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let said = Arc::<Said>::default();
        let all = Arc::clone(&said);
        // It is shown with the test's own output; a full pipe would stop it.
        thread::spawn(move || {
            for line in lines {
                println!("server: {line}");
                all.lines.lock().unwrap().push(line);
            }
            all.is_over.store(true, SeqCst);
        });
        Self { child, said }
    }

    /// Waits until it listens, and says where.
    fn listens(&self) -> SocketAddr {
        let line = self.await_line(LISTENING);
        line.split_once(LISTENING).unwrap().1.parse().unwrap()
    }

    /// Waits until it has said a line with this text.
    fn await_line(&self, text: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let is_over = self.said.is_over.load(SeqCst);
            let said = self.said.lines.lock().unwrap();
            if let Some(line) = said.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!is_over, "it has ended without `{text}`: {said:?}");
            assert!(Instant::now() < give_up, "it does not say `{text}`: {said:?}");
            drop(said);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
