"""How late the sweep is, and what memory it takes, while clients make it all the work they can."""

import contextlib
import http.client
import math
import multiprocessing
import os
import threading
import time

from lib import load
from lib.server import Orchestrator

HEAD = ["load", "processors", "requests/s", "lag p50", "lag p99", "lag at most", "keys that lived", "resident MB", "needed MB", "ratio"]
PAUSE = 0.005
AIM = "100 ms (p99)"
CREATORS = 4
CREATED_AT_ONCE = 1000


def metrics(connection):
    """Those without labels, and those of the pool `default`."""
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    lines = (line.replace('{pool="default"}', "") for line in lines if not line.startswith("#"))
    pairs = (line.rsplit(" ", 1) for line in lines if "{" not in line)
    return {name.removeprefix("token_orchestrator_"): float(value) for name, value in pairs}


@contextlib.contextmanager
def watched(server):
    """A list that fills with what the server shows while this lasts."""
    looks, is_over = [], threading.Event()

    def watch():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not is_over.wait(PAUSE):
            seen = metrics(connection)
            looks.append((time.monotonic(), seen["sweep_lag_seconds"], seen["keys_created_total"], server.resident_bytes()))
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield looks
    finally:
        is_over.set()
        watcher.join()


def create(port, cores, seconds, done):
    """Creates keys as fast as one connection can, and counts the requests."""
    os.sched_setaffinity(0, cores)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    end, requests = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        connection.request("POST", "/keys", f'{{"count":{CREATED_AT_ONCE}}}')
        connection.getresponse().read()
        requests += 1
    done.put(requests)


def flood_of_creations(server, seconds):
    """Requests a second."""
    done = multiprocessing.Queue()
    creators = [
        multiprocessing.Process(target=create, args=(server.port, server.load_cores, seconds, done)) for _ in range(CREATORS)
    ]
    for creator in creators:
        creator.start()
    requests = sum(done.get() for _ in creators)
    for creator in creators:
        creator.join()
    return requests / seconds


def flood_of_leases(server, seconds):
    """Requests a second."""
    return load.wrk(server, "GET", "/keys", seconds, depth=64)["per_second"]


def lived(looks, life):
    """How many keys lived at once at most, if each died on time."""
    most, first = 0, 0
    for at, _, created, _ in looks:
        while first + 1 < len(looks) and looks[first + 1][0] <= at - life:
            first += 1
        before = looks[first][2] if looks[first][0] <= at - life else 0
        most = max(most, int(created - before))
    return most


def needed(keys, leased):
    """Memory of a server that has so many keys, and nothing else."""
    with Orchestrator(keys) as server:
        if leased:
            load.lease_all(server)
        return server.resident_bytes()


def percentile(values, share):
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]


def measure(options):
    """The rows of the table, and everything that was measured."""
    usable = set(os.sched_getaffinity(0))
    places = [("one each", None)] if len(usable) > 1 else []
    loads = [
        ("GET /keys, leases of 1 s", ("--key-ttl", "1h", "--lease-ttl", "1s"), options.keys, flood_of_leases),
        ('POST /keys {"count":1000}, lives of 1 s', ("--key-ttl", "1s"), 0, flood_of_creations),
    ]
    rows, raw = [], {}
    for name, arguments, keys, flood in loads:
        for place, shared in [*places, ("all for both", usable)]:
            with Orchestrator(keys, *arguments, shared=shared) as server, watched(server) as looks:
                per_second = flood(server, options.seconds)
            living = keys or lived(looks, 1)
            lags = [lag for _, lag, _, _ in looks]
            resident, need = max(look[3] for look in looks), needed(living, bool(keys))
            rows.append([
                name,
                place,
                f"{per_second:,.0f}",
                *[f"{percentile(lags, share) * 1000:.0f} ms" for share in (50, 99, 100)],
                f"{living:,}",
                f"{resident / 1e6:.0f}",
                f"{need / 1e6:.0f}",
                f"{resident / need:.2f}",
            ])
            raw[f"{name}, {place}"] = {"per_second": per_second, "looks": looks, "living": living, "needed": need}
            print(f"{name}, {place}: the sweep is late by {rows[-1][4]} at 99 %", flush=True)
    return rows, raw
