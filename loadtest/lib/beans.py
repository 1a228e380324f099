"""Load for beanstalkd, which has no load generator: clients that add jobs, reserve them, and delete them."""

import multiprocessing
import os
import re
import selectors
import socket
import time

from lib import disk, load

# As long as the id of a key.
JOB = b"936da01f-9abd-4d9d-80c7-02af85c822a8"
# What it says to each step of a job's way through the queue.
INSERTED = re.compile(rb"INSERTED (\d+)\r\n")
RESERVED = re.compile(rb"RESERVED (\d+) \d+\r\n" + JOB + b"\r\n")
DELETED = re.compile(rb"(DELETED)\r\n")
PUT = b"put 0 0 3600 %d\r\n%s\r\n" % (len(JOB), JOB)


class Client:
    """Adds so many jobs at once, then reserves as many, and then deletes those."""

    def __init__(self, server, depth):
        self.connection, self.depth = socket.create_connection(("127.0.0.1", server.port), timeout=60), depth
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(INSERTED, PUT * depth)

    def send(self, expected, requests):
        self.expected, self.got, self.rest, self.sent = expected, [], b"", time.perf_counter()
        self.connection.sendall(requests)

    def receive(self):
        """How long all answers took, once they are there."""
        self.rest += self.connection.recv(1 << 16)
        end = 0
        for match in self.expected.finditer(self.rest):
            self.got.append(match[1])
            end = match.end()
        self.rest = self.rest[end:]
        if len(self.got) < self.depth:
            return None
        taken = time.perf_counter() - self.sent
        if self.expected is INSERTED:
            self.send(RESERVED, b"reserve\r\n" * self.depth)
        elif self.expected is RESERVED:
            self.send(DELETED, b"".join(b"delete %s\r\n" % job for job in self.got))
        else:
            self.send(INSERTED, PUT * self.depth)
        return taken


def run(server, cores, seconds, depth, done):
    os.sched_setaffinity(0, cores)
    clients = selectors.DefaultSelector()
    for _ in range(load.connections):
        client = Client(server, depth)
        clients.register(client.connection, selectors.EVENT_READ, client)
    begin, taken = time.monotonic(), []
    while (elapsed := time.monotonic() - begin) < seconds:
        for key, _ in clients.select(1):
            if (time_taken := key.data.receive()) is not None:
                taken.append(time_taken * 1e6)
    done.put({
        "requests": len(taken) * depth,
        "per_second": len(taken) * depth / elapsed,
        "p50_us": disk.percentile(taken, 50),
        "p99_us": disk.percentile(taken, 99),
        "bad_status": 0,
        "broken": 0,
    })


def drive(server, seconds, depth=1):
    """Figures of the three kinds of requests together."""
    done = multiprocessing.Queue()
    process = multiprocessing.Process(target=run, args=(server, server.load_cores, seconds, depth, done))
    cpu = server.cpu_seconds()
    process.start()
    result = done.get()
    result["cpu_us"] = (server.cpu_seconds() - cpu) * 1e6 / result["requests"]
    process.join()
    return result
