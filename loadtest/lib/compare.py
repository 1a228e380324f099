"""The comparison: the server, the least that it could cost, and its rivals, in one run."""

import contextlib
import statistics
import subprocess
import tempfile
import time

from lib import load, machine, rivals, turns
from lib.server import Orchestrator

DEPTH = 16
SIZES = (1_000, 1_000_000, 10_000_000)
# The place of the size that the rest are compared with.
BASE = 1


def both(server, seconds, method="GET", path="/keys", ids=None, fields=()):
    """One request at a time, and pipelined."""
    return {
        "plain": load.wrk(server, method, path, seconds, ids=ids, fields=fields),
        "pipelined": load.wrk(server, method, path, seconds, depth=DEPTH, ids=ids, fields=fields),
    }


def fixed(make):
    def run(options):
        with make() as server:
            return both(server, options.seconds)

    return run


def lease(path):
    def run(options):
        # Each of the two has free keys of its own to lease; in a second a million would be too few.
        with Orchestrator(options.keys) as server:
            plain = load.wrk(server, "GET", path, options.seconds)
        with Orchestrator(2 * options.keys) as server:
            return {"plain": plain, "pipelined": load.wrk(server, "GET", path, 1, depth=DEPTH)}

    return run


def show(options):
    with Orchestrator(options.keys) as server:
        return both(server, options.seconds, "GET", "/keys/{id}", server.ids)


# The ETag of a key that was leased once.
FIRST_LEASE = [("If-Match", '"1"')]


def once(method, path, fields=(), leased=True):
    """What can be done once to each key."""

    def run(options):
        def take(keys, seconds, depth):
            with Orchestrator(keys) as server:
                if leased:
                    load.lease_all(server)
                return load.wrk(server, method, path, seconds, depth=depth, ids=server.ids, fields=fields)

        # Twice as many, so that none comes a second time.
        return {"plain": take(options.keys, options.seconds, 1), "pipelined": take(2 * options.keys, 1, DEPTH)}

    return run


def renew(options):
    with Orchestrator(options.keys) as server:
        load.lease_all(server)
        return both(server, options.seconds, "PUT", "/keys/{id}/lease", server.ids, FIRST_LEASE)


def create(options):
    with Orchestrator() as server:
        return both(server, options.seconds, "POST")


def keep_alive(options):
    with Orchestrator(options.keys) as server:
        return both(server, options.seconds, "PUT", "/keepalive/{id}", server.ids)


def http2(options):
    with Orchestrator(options.keys) as server:
        return {"plain": load.h2load(server, "/keys", options.seconds)}


def redis(options):
    with rivals.Redis(options.keys) as server:
        plain = load.redis_benchmark(server, min(100_000, options.keys // 2))
        pipelined = load.redis_benchmark(server, min(200_000, options.keys // 2), depth=DEPTH)
        return {"plain": plain, "pipelined": pipelined}


def leases(options):
    with Orchestrator(options.keys) as server:
        plain = load.wrk(server, "POST", "/leases?wait=1s", options.seconds)
    with Orchestrator(2 * options.keys) as server:
        return {"plain": plain, "pipelined": load.wrk(server, "POST", "/leases?wait=1s", 1, depth=DEPTH)}


def retry(options):
    with Orchestrator(options.keys) as server:
        return both(server, options.seconds, "POST", "/leases?wait=1s", fields=[("Idempotency-Key", "a-random-uuid")])


# Name, the tool that it needs beside wrk, and how it is run.
CONTESTANTS = [
    ("floor: epoll loop in C, parses nothing", "gcc", fixed(rivals.floor)),
    ("bare hyper, fixed answer", None, fixed(rivals.bare_hyper)),
    ("GET /keys", None, lease("/keys")),
    ("GET /keys?wait=1s&lease=30s", None, lease("/keys?wait=1s&lease=30s")),
    ("POST /leases?wait=1s", None, leases),
    ("POST /leases?wait=1s again, Idempotency-Key", None, retry),
    ("GET /keys/:id", None, show),
    ("PUT /keys/:id", None, once("PUT", "/keys/{id}")),
    ("PUT /keys/:id, If-Match", None, once("PUT", "/keys/{id}", FIRST_LEASE)),
    ("PUT /keys/:id?cooldown=1m, If-Match", None, once("PUT", "/keys/{id}?cooldown=1m", FIRST_LEASE)),
    ("PUT /keys/:id/lease, If-Match", None, renew),
    ("PUT /keepalive/:id", None, keep_alive),
    ("POST /keys", None, create),
    ("DELETE /keys/:id", None, once("DELETE", "/keys/{id}", leased=False)),
    ("GET /keys over HTTP/2", "h2load", http2),
    ("nginx, return 200", "nginx", fixed(rivals.Nginx)),
    ("Redis, a script that leases", "redis-server", redis),
]


def rounds(options):
    """Runs every contestant in turn, `options.rounds` times; their results by name."""
    present = [c for c in CONTESTANTS if c[1] is None or not machine.missing(c[1])]
    results = {name: [] for name, _, _ in present}
    for number in range(options.rounds):
        for name, _, run in present:
            results[name].append(run(options))
            print(f"round {number + 1}: {name}", flush=True)
    return results


def median(results, name, mode, figure):
    values = [result[mode][figure] for result in results[name] if figure in result.get(mode, {})]
    return statistics.median(values) if values else None


def ratio(results, name, mode, figure, base):
    """The median of the ratios to `base`, each within one round."""
    pairs = zip(results[name], results.get(base, []))
    values = [a[mode][figure] / b[mode][figure] for a, b in pairs if mode in a and mode in b]
    return statistics.median(values) if values else None


def rows(results):
    """The row of the table for each contestant."""
    floor, nginx, redis = CONTESTANTS[0][0], "nginx, return 200", CONTESTANTS[-1][0]
    show = lambda value, form: "" if value is None else format(value, form)
    for name in results:
        yield [
            name,
            show(median(results, name, "plain", "cpu_us"), ".2f"),
            show(ratio(results, name, "plain", "cpu_us", floor), ".2f"),
            show(ratio(results, name, "plain", "cpu_us", nginx), ".2f"),
            show(median(results, name, "plain", "p99_us"), ",.0f"),
            show(median(results, name, "pipelined", "per_second"), ",.0f"),
            show(ratio(results, name, "pipelined", "per_second", floor), ".2f"),
            show(ratio(results, name, "pipelined", "per_second", nginx), ".1f"),
            show(ratio(results, name, "pipelined", "per_second", redis), ".1f"),
            show(ratio(results, name, "pipelined", "cpu_us", floor), ".2f"),
        ]


HEAD = [
    "server or route", "CPU µs/request", "of floor", "of nginx", "p99 µs",
    "pipelined 16 deep, requests/s", "of floor", "of nginx",
    "of Redis", "CPU of floor",
]


def sizes(options):
    """CPU of a request at several pool sizes: the cycle of a lease, and a look at a key."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Orchestrator(size)) for size in SIZES]
        for server in servers:
            # As many requests prepared for each size, so that the load generator's own memory is
            # the same.
            server.ids = (server.ids * (SIZES[BASE] // len(server.ids) or 1))[: SIZES[BASE]]
        cycle = turns.take(servers, options.rounds, options.seconds, "", "", "cycle.lua")
        look = turns.take(servers, options.rounds, options.seconds, "GET", "/keys/{id}")
    rows = []
    for place, size in enumerate(SIZES):
        row = [f"{size:,}"]
        for results in (cycle, look):
            row.append(f"{turns.median(results, place, 'cpu_us'):.2f}")
            row.append(f"{turns.ratio(results, place, BASE, 'cpu_us'):.2f}")
        rows.append([*row, str(turns.failed([results[place : place + 1] for results in [*cycle, *look]]))])
    head = ["keys", "lease, keep alive, renew, release, fenced: CPU µs/request", "of a million", "GET /keys/:id", "of a million", "not 2xx"]
    return head, rows, {"cycle": cycle, "look": look}


def storm(options):
    """A million keys die within the second or so in which they were created, while clients work."""
    life = 24
    with Orchestrator() as empty:
        before = empty.resident_bytes()
    with Orchestrator(options.keys, "--key-ttl", f"{life}s") as server:
        born, full = time.monotonic(), server.resident_bytes()
        time.sleep(max(0, born + life / 2 - time.monotonic()))
        server.create(1000)
        working = server.ids[options.keys :]
        quiet = load.wrk(server, "GET", "/keys/{id}", 4, ids=working)
        time.sleep(max(0, born + life - 3 - time.monotonic()))
        stormy = load.wrk(server, "GET", "/keys/{id}", 4, ids=working)
        time.sleep(3)
        after = server.resident_bytes()
    head = ["", "p50 µs", "p99 µs", "p99.9 µs", "worst µs", "resident MB"]
    figures = lambda result: [f"{result[name]:,}" for name in ("p50_us", "p99_us", "p999_us", "max_us")]
    rows = [
        ["no keys", "", "", "", "", f"{before / 1e6:.0f}"],
        ["quiet", *figures(quiet), f"{full / 1e6:.0f}"],
        ["while all die", *figures(stormy), f"{after / 1e6:.0f}"],
    ]
    return head, rows, {"quiet": quiet, "storm": stormy, "resident": [before, full, after]}


@contextlib.contextmanager
def certificate():
    """A certificate that signs itself, and its key: ECDSA, as is usual today."""
    with tempfile.TemporaryDirectory() as folder:
        files = (f"{folder}/cert.pem", f"{folder}/key.pem")
        command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-days", "2", "-subj", "/CN=localhost", "-out", files[0], "-keyout", files[1]]
        subprocess.run(command, check=True, capture_output=True)
        yield files


def secure(options):
    """The same request over TLS and over HTTP/2, beside nginx with an answer that never changes."""
    streams = 16
    h1 = lambda server: load.wrk(server, "GET", "/keys/{id}", options.seconds, ids=server.ids or ["x"])
    h2 = lambda server: load.h2load(server, f"/keys/{(server.ids or ['x'])[0]}", options.seconds, streams)
    cases = [
        ("HTTP/1.1 over TLS, one at a time", True, False, h1),
        (f"HTTP/2 over TLS, {streams} streams", True, True, h2),
        (f"HTTP/2 in clear, {streams} streams", False, True, h2),
    ]
    raw, table = {}, []
    with certificate() as files:
        for name, is_secure, is_http2, drive in cases:
            own = {"certificate": files if is_secure else None}
            with Orchestrator(1000, "--key-ttl", "1h", **own) as ours, rivals.Nginx(http2=is_http2, **own) as nginx:
                pairs = [(drive(ours), drive(nginx)) for _ in range(options.rounds)]
            ratios = [a["cpu_us"] / b["cpu_us"] for a, b in pairs]
            middle = lambda place: statistics.median(pair[place]["cpu_us"] for pair in pairs)
            failed = sum(one["bad_status"] + one["broken"] for pair in pairs for one in pair)
            table.append([name, f"{middle(0):.2f}", f"{middle(1):.2f}", f"{statistics.median(ratios):.2f}", str(failed)])
            raw[name] = pairs
            print(f"over TLS or HTTP/2: {name}", flush=True)
    return ["GET /keys/:id", "CPU µs/request", "nginx, return 200", "of nginx", "not 2xx"], table, raw
