"""A cluster of redis-server nodes for the store that many servers share, and what they tell of themselves."""

import contextlib
import http.client
import os
import time

from lib import machine
from lib.node import Node
from lib.server import Orchestrator

SLOTS = 16384
SHARDS = 64
# Clusters under load have so many keys at most. The memory of keys is measured with any number.
KEYS = 1_000_000
# How long a cluster may take to form, and a server to open its store there.
PATIENCE_S = 60


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
