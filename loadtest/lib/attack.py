"""Attacks at a steady rate, each a process that takes only what the load leaves of its processor."""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import socket
import struct
import time

from lib import machine

IDLE = 10_000
STALLED = 1_000
UNKNOWN = "936da01f-9abd-4d9d-80c7-{:012}"


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def paced(per_second):
    """Yields so often a second, and skips what it missed."""
    due = time.monotonic()
    while True:
        yield
        due = max(due + 1 / per_second, time.monotonic() - 1)
        time.sleep(max(0, due - time.monotonic()))


def send(stream, data):
    """Whether the server still takes the bytes."""
    try:
        stream.sendall(data)
        return True
    except OSError:
        return False


def idle(port, done):
    """Opens connections, half of which send one request."""
    kept = []
    for number in range(IDLE):
        kept.append(connect(port))
        if number % 2:
            kept[-1].sendall(b"GET /keys/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        done.value += 1
    time.sleep(3600)


def stalled(port, done):
    """Heads that go on for ever, a byte at a time."""
    begin = lambda: (lambda stream: (send(stream, b"GET /keys HTTP/1.1\r\nHost: localhost\r\nX: "), stream)[1])(connect(port))
    heads = [begin() for _ in range(STALLED)]
    for _ in paced(1000):
        at = done.value % STALLED
        if not send(heads[at], b"x"):
            heads[at] = begin()
        done.value += 1


def garbage(port, done):
    """Connections that bring random bytes."""
    source = random.Random(2026)
    for _ in paced(500):
        with connect(port) as stream:
            send(stream, source.randbytes(200))
        done.value += 1


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def resets(port, done):
    """Streams of HTTP/2 that are reset as soon as they are opened, a hundred at a time."""
    field = lambda name, value: bytes([0, len(name)]) + name + bytes([len(value)]) + value
    block = field(b":method", b"GET") + field(b":scheme", b"http") + field(b":path", b"/stats")
    pair = lambda stream: frame(1, 5, stream, block) + frame(3, 0, stream, struct.pack(">I", 8))
    data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    data += b"".join(pair(2 * number + 1) for number in range(100))
    for _ in paced(50):
        with connect(port) as stream:
            send(stream, data)
        done.value += 100


def batches(port, done):
    """Keep-alives of a hundred thousand unknown keys."""
    body = json.dumps({"keyIds": [UNKNOWN.format(i) for i in range(100_000)]}).encode()
    head = f"PUT /keepalive HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    for _ in paced(2):
        with connect(port) as stream:
            if send(stream, head + body):
                with contextlib.suppress(OSError):
                    while stream.recv(1 << 20):
                        pass
        done.value += 1


# Name, the attack, and how its rate is reported.
ATTACKS = [
    (f"{IDLE:,} idle connections", idle, "{total:,} in all"),
    (f"{STALLED:,} heads that stall", stalled, "{rate:,.0f} bytes/s"),
    ("random bytes", garbage, "{rate:,.0f} connections/s"),
    ("HTTP/2 rapid reset", resets, "{rate:,.0f} streams/s"),
    ("batches of 100,000 keys", batches, "{rate:,.1f} batches/s"),
]


@contextlib.contextmanager
def under(attack, server):
    """Runs the attack until the end of a `with`. The value counts what it did."""

    def run(port, done):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.sched_setaffinity(0, server.load_cores)
        attack(port, done)

    done = multiprocessing.Value("q", 0)
    process = multiprocessing.get_context("fork").Process(target=run, args=(server.port, done), daemon=True)
    process.start()
    try:
        # Idle connections are open before the load begins; the remaining attacks have started.
        deadline = time.monotonic() + 60
        while done.value < (IDLE if attack is idle else 1):
            if not process.is_alive() or time.monotonic() > deadline:
                raise SystemExit(f"the attack did not begin: {attack.__doc__}")
            time.sleep(0.01)
        yield done
        if not process.is_alive():
            raise SystemExit(f"the attack ended early: {attack.__doc__}")
    finally:
        process.kill()
        process.join()
