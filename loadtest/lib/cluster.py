"""A cluster of redis-server nodes for the store that many servers share, and what they tell of themselves."""

import contextlib
import http.client
import os
import socket
import tempfile
import threading
import time

from lib import machine
from lib.server import Orchestrator, Server, free_port

SLOTS = 16384
SHARDS = 64
# Clusters under load have so many keys at most. The memory of keys is measured with any number.
KEYS = 1_000_000
# How long a cluster may take to form, and a server to open its store there.
PATIENCE_S = 60
# The bus of a cluster has a port of its own, so far above the other one.
BUS = 10_000


class Connection:
    """Commands to a node, one at a time, from any thread."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.lock = threading.Lock()

    def close(self):
        self.file.close()
        self.socket.close()

    def ask(self, *words):
        """The answer to a command, which must not be refused."""
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        with self.lock:
            self.socket.sendall(b"*%d\r\n%s" % (len(words), b"".join(parts)))
            return self.read()

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind != b"+":
            raise SystemExit(f"redis-server: {rest.decode() or 'closed the connection'}")
        return rest


def port_with_bus():
    """A free port, with that of the bus free as well."""
    while True:
        port = free_port()
        port -= 20_000 if port > 65535 - BUS else 0
        try:
            for one in (port, port + BUS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", one))
            return port
        except OSError:
            continue


class Node(Server):
    """A node in memory only. Primaries have a processor of their own, and replicas run where there is room."""

    def __init__(self, cores):
        self.folder = tempfile.TemporaryDirectory(prefix="engine-")
        command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", self.folder.name]
        command += ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--shutdown-timeout", "0"]
        command += ["--repl-diskless-sync-delay", "0"]
        super().__init__(command, port=port_with_bus(), shared=cores)
        self.connection = Connection(self.port)

    def __exit__(self, *reason):
        self.connection.close()
        super().__exit__(*reason)
        self.folder.cleanup()

    def ask(self, *words):
        return self.connection.ask(*words)

    def info(self, section):
        """What INFO says, by name."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


class Cluster:
    """Primaries that share the slots, with a replica each if there are to be replicas."""

    def __init__(self, primaries, has_replicas=False):
        with contextlib.ExitStack() as stack:
            start = lambda cores: stack.enter_context(Node(cores))
            self.primaries = [start(machine.cores()[0]) for _ in range(primaries)]
            self.replicas = [start(os.sched_getaffinity(0)) for _ in range(primaries if has_replicas else 0)]
            self.nodes = self.primaries + self.replicas
            self.stack = stack.pop_all()
        for number, node in enumerate(self.nodes):
            if number < primaries:
                node.ask("CLUSTER", "ADDSLOTSRANGE", number * SLOTS // primaries, (number + 1) * SLOTS // primaries - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.stack.__exit__(*reason)

    def form(self):
        """Waits until the nodes know one another, and replicas have what their primaries have."""
        says = lambda node, text: text in node.ask("CLUSTER", "INFO").decode()
        knows_all = lambda node: says(node, f"cluster_known_nodes:{len(self.nodes)}\r\n")
        until(lambda: all(map(knows_all, self.nodes)))
        for primary, replica in zip(self.primaries, self.replicas):
            id = primary.ask("CLUSTER", "MYID")
            until(lambda: id in replica.ask("CLUSTER", "NODES"))
            replica.ask("CLUSTER", "REPLICATE", id)
        until(lambda: all(node.info("replication").get("master_link_status") == "up" for node in self.replicas))
        until(lambda: all(says(node, "cluster_state:ok") for node in self.nodes))

    def url(self):
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def server(self, keys=0, *options):
        """A server whose pools are here. It shares the processor of the load."""
        acknowledged = str(int(bool(self.replicas)))
        options += ("--key-ttl", "1h", "--store", self.url(), "--store-shards", str(SHARDS), "--store-replicas-ack", acknowledged)
        # On a shared machine, a program may stand still for a second.
        options += ("--store-timeout", "10s")
        server = Orchestrator(0, *options, shared=machine.cores()[1])
        until(lambda: is_ready(server))
        server.create(keys)
        return server

    def go_first(self):
        """The primaries go before other programs from now on, where that is allowed."""
        with contextlib.suppress(PermissionError):
            for node in self.primaries:
                os.setpriority(os.PRIO_PROCESS, node.process.pid, -20)

    def cpu_seconds(self):
        """CPU time of the primaries."""
        return sum(node.cpu_seconds() for node in self.primaries)

    def used_memory(self):
        """Bytes that the primaries have allocated."""
        return sum(int(node.info("memory")["used_memory"]) for node in self.primaries)

    def calls(self):
        """How many calls of the library the primaries have executed."""
        counts = [node.info("commandstats").get("cmdstat_fcall", "calls=0,") for node in self.primaries]
        return sum(int(count.split("calls=")[1].split(",")[0]) for count in counts)


def is_ready(server):
    """Whether a server has opened its store."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/readyz")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def until(is_so):
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"a cluster, or a server with one, is not ready after {PATIENCE_S} s")
        time.sleep(0.05)
