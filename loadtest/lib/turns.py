"""Slices of a load that take turns on servers that stay: a shared machine's speed changes by the minute."""

import statistics

from lib import load

# Such as use nothing up, so that one pool lasts: name, method, path, script, how many at once.
LOADS = [
    ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 1),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", 1),
    ("lease, keep alive, release", "", "", "cycle.lua", 1),
    ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 16),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", 16),
]


def take(servers, rounds, seconds, method, path, script="requests.lua", depth=1):
    """What each of `servers` made of its slice, for each round."""
    slice_of = lambda server: load.wrk(
        server, method, path, seconds, depth=depth, ids=server.ids, script=script
    )
    # The first requests after the start are slower.
    for server in servers:
        slice_of(server)
    results = []
    for number in range(rounds):
        # In turn, each comes first.
        first = number % len(servers)
        slices = {id(server): slice_of(server) for server in servers[first:] + servers[:first]}
        results.append([slices[id(server)] for server in servers])
    return results


def median(results, server, figure):
    """Of the rounds' figures of one server, by its place in `servers`."""
    return statistics.median(slices[server][figure] for slices in results)


def ratio(results, server, base, figure):
    """The median of the ratios of two servers, each within one round."""
    return statistics.median(slices[server][figure] / slices[base][figure] for slices in results)


def failed(results):
    """Answers that were not 2xx, and none at all."""
    return sum(result["bad_status"] + result["broken"] for slices in results for result in slices)
