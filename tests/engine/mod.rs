//! Engines for the store that many servers share, on free ports, alone and as a cluster, until the tests end: `redis-server`, or the
//! program that `TEST_ENGINE` names, such as `valkey-server`.

pub(crate) mod proxy;

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use self::proxy::Cables;

/// A cluster has so many primaries, each with one replica.
const PRIMARIES: usize = 3;
/// How long a cluster may take to form.
const FORMING: Duration = Duration::from_mins(1);

/// A node of an engine that runs.
pub(crate) struct Node {
    port: u16,
    /// By what ports others reach it: that, and the one of the bus of a cluster.
    announced: [u16; 2],
    directory: PathBuf,
    pub(crate) process: Child,
}

impl Node {
    /// Starts a node on a free port, which `PORT` stands for in the options.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in(&[], options)
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in(environment: &[(&str, &str)], options: &[&str]) -> Self {
        let engine = env::var("TEST_ENGINE").unwrap_or_else(|_| "redis-server".to_owned());
        // Another program may take the port meanwhile: then the next one is tried.
        for _ in 0..10 {
            let port = free_port();
            let name = format!("engine-{}-{port}", std::process::id());
            let directory = env::temp_dir().join(name);
            fs::create_dir_all(&directory).unwrap();
            let process = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", &engine, "--save", "", "--port"])
                .arg(port.to_string())
                .arg("--dir")
                .arg(&directory)
                .args(options.iter().map(|option| option.replace("PORT", &port.to_string())))
                .envs(environment.iter().copied())
                .stdout(Stdio::null())
                .spawn();
            let process = process.expect("setpriv is there");
            let mut node = Self { port, announced: [port, port + 10_000], directory, process };
            if node.is_up() {
                return node;
            }
        }
        panic!("{engine} does not start; tests/run installs redis-server");
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

    /// Starts a node that others reach by cables, which they connect by its address: see [`proxy::address_of`].
    fn start_with_cables(number: usize, all: &[Cables], options: &[&str]) -> Self {
        let listeners = [0; 2].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let announced = [0, 1].map(|one: usize| listeners[one].local_addr().unwrap().port());
        let [port, bus] = announced.map(|port| port.to_string());
        let address = proxy::address_of(number).to_string();
        let announcing = ["--bind-source-addr", &address, "--cluster-announce-ip", "127.0.0.1"];
        let at = ["--cluster-announce-port", &port, "--cluster-announce-bus-port", &bus];
        let mut node = Self::start(&[options, &announcing, &at].concat());
        for (listener, to) in listeners.into_iter().zip(node.announced) {
            let to = (Ipv4Addr::LOCALHOST, to).into();
            proxy::pass_on(listener, to, all[number].clone(), all.to_vec());
        }
        node.announced = announced;
        node
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.announced[0])
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &process]).status().unwrap().success());
    }

    /// What it answers to a command.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connect()).unwrap_or_else(|error| error.to_string())
    }

    /// The number that it answers to a command.
    pub(crate) fn ask_number(&self, words: &[&str]) -> u64 {
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut self.connect()).unwrap()
    }

    fn connect(&self) -> ::redis::Connection {
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        client.get_connection().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A port whose number leaves room for that of the bus of a cluster, 10,000 above it.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Both are taken at once, so that no other node takes either.
        let port = if port > 50_000 { port - 20_000 } else { port };
        drop(listener);
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// An engine that runs.
pub(crate) struct Engine {
    /// In a cluster the primaries first, and then the replica of each.
    pub(crate) nodes: Vec<Node>,
    /// Those of each node, if they can be cut.
    pub(crate) cables: Vec<Cables>,
}

impl From<Node> for Engine {
    /// A single node.
    fn from(node: Node) -> Self {
        Self { nodes: vec![node], cables: Vec::new() }
    }
}

impl Engine {
    /// A cluster of primaries with a replica each, which takes over when its primary has been silent for so long.
    pub(crate) fn cluster(silent: Duration) -> Self {
        Self::form(silent, Vec::new())
    }

    /// The same, whose nodes can be cut off.
    pub(crate) fn cluster_with_cables(silent: Duration) -> Self {
        Self::form(silent, (0..2 * PRIMARIES).map(|_| Cables::default()).collect())
    }

    fn form(silent: Duration, cables: Vec<Cables>) -> Self {
        // While it forms, no node takes over from another one that a busy machine has made silent.
        let forming_ms = FORMING.as_millis().to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", &forming_ms];
        let start = |number| {
            if cables.is_empty() {
                return Node::start(&options);
            }
            Node::start_with_cables(number, &cables, &options)
        };
        let nodes: Vec<_> = (0..2 * PRIMARIES).map(start).collect();
        let slots = 16384 / PRIMARIES;
        for (number, node) in nodes.iter().enumerate() {
            if number < PRIMARIES {
                let last = if number + 1 == PRIMARIES { 16383 } else { (number + 1) * slots - 1 };
                let range = [(number * slots).to_string(), last.to_string()];
                node.ask(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            }
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let [port, bus] = nodes[0].announced.map(|port| port.to_string());
            node.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let until = |what: &dyn Fn() -> bool| {
            let began = Instant::now();
            while !what() {
                assert!(began.elapsed() < FORMING, "the cluster does not form");
                thread::sleep(Duration::from_millis(50));
            }
        };
        let knows = |node: &Node, text: &str| node.ask(&["CLUSTER", "INFO"]).contains(text);
        let all = format!("cluster_known_nodes:{}", nodes.len());
        until(&|| nodes.iter().all(|node| knows(node, &all)));
        for (primary, replica) in nodes.iter().zip(&nodes[PRIMARIES..]) {
            let id = primary.ask(&["CLUSTER", "MYID"]);
            until(&|| replica.ask(&["CLUSTER", "REPLICATE", &id]) == "OK");
        }
        let is_linked =
            |node: &Node| node.ask(&["INFO", "replication"]).contains("master_link_status:up");
        until(&|| nodes[PRIMARIES..].iter().all(is_linked));
        until(&|| nodes.iter().all(|node| knows(node, "cluster_state:ok")));
        let silent_ms = silent.as_millis().to_string();
        for node in &nodes {
            node.ask(&["CONFIG", "SET", "cluster-node-timeout", &silent_ms]);
        }
        Self { nodes, cables }
    }

    /// The URLs of all nodes.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("redis://{}", node.address())).collect()
    }
}

/// Moves slots that have keys from one primary to another, so many at most and key by key, as `redis-cli --cluster reshard` does.
/// Returns how many.
pub(crate) fn move_slots(from: &Node, to: &Node, most: usize) -> usize {
    let (from_id, to_id) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
    let mut connection = from.connect();
    let slots = (0..16384).map(|slot: u16| slot.to_string());
    let mut moved = 0;
    for slot in slots {
        let mut first = || {
            let mut keys = ::redis::cmd("CLUSTER");
            let keys =
                keys.arg("GETKEYSINSLOT").arg(&slot).arg(1).query::<Vec<Vec<u8>>>(&mut connection);
            keys.unwrap().pop()
        };
        if moved == most || first().is_none() {
            continue;
        }
        let set = |node: &Node, state: &str, id: &str| {
            assert_eq!(node.ask(&["CLUSTER", "SETSLOT", &slot, state, id]), "OK");
        };
        set(to, "IMPORTING", &from_id);
        set(from, "MIGRATING", &to_id);
        while let Some(key) = first() {
            let mut migrate = ::redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to.port).arg(key).arg(0).arg(5000);
            migrate.exec(&mut from.connect()).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        for node in [to, from] {
            set(node, "NODE", &to_id);
        }
        moved += 1;
    }
    moved
}
