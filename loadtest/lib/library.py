"""Groups of operations that are sent straight to the engine: to the library of the server, and to a bare script."""

import os
import random
import time

from lib.cluster import SHARDS

EPOCH_S = 1735689600
# The numbers of operations: see `operations` in src/store/redis/lua/run.lua.
LEASE, RELEASE = 2, 4
# What an answer begins with, and how long each lease in it is: its status, short id, record, and the length of its value.
HEAD_BYTES, LEASE_BYTES = 9, 47
LEASE_MS = 3_600_000
# The most keys that one call of the bare script creates.
EACH = 500


def number(size, value):
    return value.to_bytes(size, "big")


class Library:
    """The library that a server has loaded into a node, and the shards of its pool `default`."""

    def __init__(self, node):
        self.node = node
        names = [library[1].decode() for library in node.ask("FUNCTION", "LIST")]
        self.function = next(name for name in names if name.startswith("to_")) + "_run"
        self.sender, self.last = os.urandom(8), 0

    def call(self, shard, *operations):
        """What a shard answers to a group of operations."""
        self.last += 1
        head = self.sender + number(6, self.last) + number(5, 0) + number(4, 60_000) + number(1, 0) + number(5, 0)
        name = number(8, self.last)
        answer = self.node.ask("FCALL", self.function, 1, f"{{to/0/{shard}}}s", head, *operations, name)
        if not answer.startswith(name):
            raise SystemExit(f"shard {shard} answers another call")
        answer = answer[len(name) :]
        if answer[0] != 0:
            raise SystemExit(f"shard {shard} refuses a call: {answer[0]}")
        return answer

    def lease(self, shard, group):
        """Leases that are sent as one operation. Returns the id and the generation of each that was got."""
        darts = [number(6, random.getrandbits(48)) + number(4, 1) for _ in range(group)]
        operation = number(1, LEASE) + number(4, LEASE_MS) + number(1, 0) + number(2, group) + b"".join(darts)
        answer = self.call(shard, operation)
        ends = range(HEAD_BYTES, len(answer) - LEASE_BYTES, LEASE_BYTES)
        return [(answer[at + 1 : at + 17], answer[at + 17 : at + 24]) for at in ends if answer[at] == 0]

    def release(self, shard, leases):
        """Releases, each with its fence."""
        releases = [number(1, RELEASE) + id + number(4, 0) + number(2, 1) + generation for id, generation in leases]
        self.call(shard, *releases)


class Bare:
    """A bare script in the same node, with shards of as many keys."""

    def __init__(self, node, source, keys):
        self.node = node
        node.ask("FUNCTION", "LOAD", "REPLACE", source)
        for shard in range(SHARDS):
            count = len(range(shard, keys, SHARDS))
            for first in range(0, count, EACH):
                self.call("bare_create", shard, *[os.urandom(8) for _ in range(min(EACH, count - first))])

    def call(self, function, shard, *arguments):
        return self.node.ask("FCALL", function, 1, f"{{bare/{shard}}}", *arguments)

    def lease(self, shard, group):
        now = int((time.time() - EPOCH_S) * 1000)
        return self.call("bare_lease", shard, now, now + LEASE_MS, *[random.random() for _ in range(group)])

    def release(self, shard, ids):
        self.call("bare_release", shard, *ids)
