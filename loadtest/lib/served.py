"""Load on servers whose pools are in a cluster, and what the primaries do for it."""

import concurrent.futures
import contextlib

from lib import load

# Name, how many connections there are for each that was asked for, how many requests at once on each, and how wrk is called.
CYCLE = ("lease, keep alive, renew, release, fenced", 1, 1, "", "", "cycle.lua")
# More than one request is on its way to a shard.
CROWD = ("lease, keep alive, renew, release, fenced", 16, 1, "", "", "cycle.lua")
DEEP = ("PUT /keepalive/:id", 1, 64, "PUT", "/keepalive/{id}", "requests.lua")
# So many keys are named in requests.
IDS = 100_000


@contextlib.contextmanager
def connected(connections):
    """Loads have so many connections meanwhile."""
    load.connections, before = connections, load.connections
    try:
        yield
    finally:
        load.connections = before


def outstanding(how):
    _, times, depth, *_ = how
    return load.connections * times * depth


def drive(cluster, servers, seconds, how, clients=1):
    """The figures of a load that `servers` share, with so many times as many clients. Those of the engine are for a request."""
    _, times, depth, method, path, script = how
    connections = max(1, load.connections * times * clients // len(servers))
    wrk = lambda server: load.wrk(server, method, path, seconds, depth=depth, ids=server.ids[:IDS], script=script)
    cpu, calls = cluster.cpu_seconds(), cluster.calls()
    with connected(connections), concurrent.futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(wrk, servers))
    cpu, calls = cluster.cpu_seconds() - cpu, cluster.calls() - calls
    requests = sum(result["requests"] for result in results)
    if sum(result["bad_status"] for result in results) * 20 > requests:
        raise SystemExit(f"too many of {requests:,} requests were refused: {results}")
    return {
        "requests": requests,
        "per_second": sum(result["per_second"] for result in results),
        "p99_us": max(result["p99_us"] for result in results),
        "bad_status": sum(result["bad_status"] for result in results),
        "broken": sum(result["broken"] for result in results),
        "cpu_us": sum(result["cpu_us"] * result["requests"] for result in results) / requests,
        "engine_us": cpu * 1e6 / requests,
        "engine_share": cpu * sum(result["per_second"] for result in results) / requests,
        "calls": calls / requests,
    }
