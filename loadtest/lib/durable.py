"""What a data directory costs: the same requests with and without one, and beside others that write to disk."""

import contextlib
import os
import re
import statistics
import tempfile
import threading
import time
from pathlib import Path

from lib import beans, compare, disk, load, machine, rivals, turns
from lib.server import Orchestrator

MODES = ("commit", "everysec")
DEPTH = 64
OPTIONS = ("--key-ttl", "1h")
# So that a pool outlasts leases without releases.
LEASE_TTL = "500ms"
# Of the servers that requests are measured on. Starts are measured with any number.
KEYS = 1_000_000
# So many keys are named in requests: the load generator prepares one for each, while the server rests.
IDS = 100_000

DISK_HEAD = [f"flush of {size:,} B, p50 / p99 µs" for size in disk.SIZES]
COST_HEAD = [
    "requests", "outstanding", "server on", *DISK_HEAD, "memory only, requests/s", "commit", "everysec", "commit / memory",
    "everysec / memory", "CPU µs/request, memory only", "commit", "everysec", "commit / memory", "everysec / memory", "not 2xx",
]
ALONE_HEAD = ["request", *DISK_HEAD, "memory only, p50 µs", "everysec", "commit", "commit beyond a bare flush, µs", "not 2xx"]
RIVAL_HEAD = ["server", "outstanding", *DISK_HEAD, "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "commit / it", "everysec / it", "not 2xx"]


class Durable(Orchestrator):
    """The server with a data directory. `lines` has what it has logged, and after how many seconds."""

    def __init__(self, folder, mode, keys=0, *options, **more):
        self.data = Path(folder)
        self.lines, self.begun = [], time.monotonic()
        super().__init__(0, *OPTIONS, *options, "--data-dir", str(folder), "--durability", mode, **more)
        threading.Thread(target=self.read, daemon=True).start()
        self.started, _ = self.said(r"listening on", patience=600)
        self.create(keys)

    def read(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic() - self.begun, line.decode().strip()))

    def said(self, pattern, count=1, patience=120):
        """When it has logged, for the `count`-th time, what matches `pattern`, and the match. Waits for it."""
        end = time.monotonic() + patience
        while time.monotonic() < end and self.process.poll() is None:
            found = [(at, match) for at, line in self.lines if (match := re.search(pattern, line))]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.005)
        self.process.kill()
        raise SystemExit(f"the server did not log {pattern!r} {count} times: {self.lines}")


def take(folder, rounds, drives):
    """How the disk was in each round, and the figures of each of `drives`, in turns."""
    # The first requests after the start are slower.
    for drive in drives:
        drive()
    flushes, results = [], []
    for number in range(rounds):
        flushes.append(disk.flushes(folder))
        first = number % len(drives)
        places = [*range(first, len(drives)), *range(first)]
        turn = {place: drives[place]() for place in places}
        results.append([turn[place] for place in range(len(drives))])
    return flushes, results


def disk_cells(flushes):
    """Medians over the rounds."""
    median = lambda size, figure: statistics.median(flush[size][figure] for flush in flushes)
    return [f"{median(size, 'p50_us'):,.0f} / {median(size, 'p99_us'):,.0f}" for size in disk.SIZES]


@contextlib.contextmanager
def three(options, folder, *arguments, shared=None, certificate=None):
    """A server in memory only, one that commits, and one that flushes each second, each also with `arguments`."""
    keys = min(options.keys, KEYS)
    with contextlib.ExitStack() as stack:
        more = {"shared": shared, "certificate": certificate}
        servers = [stack.enter_context(Orchestrator(keys, *OPTIONS, *arguments, **more))]
        for mode in MODES:
            data = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=f"{mode}-"))
            servers.append(stack.enter_context(Durable(data, mode, keys, *arguments, **more)))
            if not disk.used(data, "segment"):
                raise SystemExit(f"nothing was written to {data}")
        for server in servers:
            # The load stays where it is, so that the server has what is left of the other one.
            server.load_cores = machine.cores()[1]
            server.ids = server.ids[:IDS]
        yield servers


def wrk(server, options, method, path, script="requests.lua", depth=1):
    return load.wrk(server, method, path, options.seconds, depth=depth, ids=server.ids, script=script)


CYCLE = ("lease, keep alive, renew, release, fenced", "", "", "cycle.lua", 1)
LOOK = ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 1)
DEEP = ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", DEPTH)


def cost(options, folder):
    """Requests in each mode, beside those of the same binary in memory only."""
    usable = os.sched_getaffinity(0)
    places = [("its processor", None, [CYCLE, LOOK, DEEP])]
    if len(usable) > 1:
        places.append(("all processors", usable, [CYCLE, LOOK, DEEP]))
    rows, raw = [], {}
    with compare.certificate() as files:
        for place, shared, loads in [*places, ("its processor, TLS", None, [CYCLE, DEEP])]:
            certificate = files if place.endswith("TLS") else None
            with three(options, folder, shared=shared, certificate=certificate) as servers:
                for name, *how, depth in loads:
                    drives = [lambda server=server: wrk(server, options, *how, depth) for server in servers]
                    flushes, results = take(folder, options.rounds, drives)
                    served = sum(one["requests"] for turn in results for one in turn)
                    if turns.failed(results) * 20 > served:
                        raise SystemExit(f"{name}: {turns.failed(results)} of {served} requests failed")
                    rows.append([name, f"{load.connections * depth:,}", place, *disk_cells(flushes)])
                    for figure, form in (("per_second", ",.0f"), ("cpu_us", ".2f")):
                        rows[-1] += [format(turns.median(results, server, figure), form) for server in range(3)]
                        rows[-1] += [f"{turns.ratio(results, server, 0, figure):.2f}" for server in (1, 2)]
                    rows[-1].append(str(turns.failed(results)))
                    raw[f"{name}, {depth} at once, {place}"] = {"flushes": flushes, "results": results}
                    print(f"{name}, {depth} at once, {place}: commit {rows[-1][8]} of memory only", flush=True)
    return rows, raw


@contextlib.contextmanager
def one_connection():
    connections, load.connections = load.connections, 1
    try:
        yield
    finally:
        load.connections = connections


def alone(options, folder, servers):
    """What one client waits for, with nobody else there."""
    rows, raw = [], {}
    for name, method, path in [("GET /keys", "GET", "/keys"), ("PUT /keepalive/:id", "PUT", "/keepalive/{id}")]:
        drives = [lambda server=server: wrk(server, options, method, path) for server in servers]
        with one_connection():
            flushes, results = take(folder, options.rounds, drives)
        size = disk.SIZES[0]
        beyond = statistics.median(turn[1]["p50_us"] - flush[size]["p50_us"] for flush, turn in zip(flushes, results))
        p50 = [f"{turns.median(results, server, 'p50_us'):.0f}" for server in (0, 2, 1)]
        rows.append([name, *disk_cells(flushes), *p50, f"{beyond:.0f}", str(turns.failed(results))])
        raw[name] = {"flushes": flushes, "results": results}
        print(f"{name} alone: {beyond:.0f} µs beyond a bare flush", flush=True)
    return rows, raw


def beside(options, folder, servers):
    """Leases here, and of those who write them to disk as well."""
    rows, raw = [], {}
    keys = min(options.keys, KEYS)
    with contextlib.ExitStack() as stack:
        make_folder = lambda: stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="rival-"))
        names = ["this one, memory only", "this one, commit", "this one, everysec"]
        drives = [lambda depth, server=server: wrk(server, options, "GET", "/keys", depth=depth) for server in servers]
        if not machine.missing("redis-server"):
            for fsync in ("always", "everysec"):
                redis = stack.enter_context(rivals.Redis(keys, appendonly=(make_folder(), fsync)))
                # Leases do not end there: each of the turns of both tables has its share.
                share = keys // (2 * (options.rounds + 1))
                drives.append(lambda depth, redis=redis, share=share: load.redis_benchmark(redis, share, depth))
                names.append(f"Redis, Lua, appendfsync {fsync}")
        if not machine.missing("beanstalkd"):
            beanstalkd = stack.enter_context(rivals.Beanstalkd(make_folder()))
            drives.append(lambda depth: beans.drive(beanstalkd, options.seconds, depth))
            names.append("beanstalkd -f0: put, reserve, delete")
        for depth in (1, DEPTH):
            flushes, results = take(folder, options.rounds, [lambda drive=drive: drive(depth) for drive in drives])
            for place, name in enumerate(names):
                figure = lambda figure, form: format(turns.median(results, place, figure), form)
                # wrk does not tell how long one of many requests at once has taken.
                latency = [figure(one, ",.0f") for one in ("p50_us", "p99_us")] if depth == 1 else ["", ""]
                figures = [figure("per_second", ",.0f"), *latency, figure("cpu_us", ".2f")]
                ratios = [f"{turns.ratio(results, own, place, 'per_second'):.2f}" for own in (1, 2)]
                failed = str(turns.failed([turn[place : place + 1] for turn in results]))
                rows.append([name, f"{load.connections * depth:,}", *disk_cells(flushes), *figures, *ratios, failed])
            raw[f"{depth} at once"] = {"names": names, "flushes": flushes, "results": results}
            print(f"{depth} at once: {', '.join(f'{row[0]} {row[4]}/s' for row in rows[-len(names) :])}", flush=True)
    return rows, raw


def measure(options, folder):
    """The rows of the tables, and everything that was measured."""
    costs, raw_costs = cost(options, folder)
    with three(options, folder, "--lease-ttl", LEASE_TTL) as servers:
        client, raw_client = alone(options, folder, servers)
        others, raw_others = beside(options, folder, servers)
    return costs, client, others, {"cost": raw_costs, "alone": raw_client, "beside": raw_others}
