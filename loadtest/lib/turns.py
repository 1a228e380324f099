"""Servers that stay, under load in turns: the speed of a shared machine changes by the minute."""

import statistics

from lib import load

# Requests that use nothing up, so that one pool lasts: name, method, path, script, how many at once.
LOADS = [
    ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 1),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", 1),
    ("lease, keep alive, renew, release, fenced", "", "", "cycle.lua", 1),
    ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 16),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", 16),
]


def take(servers, rounds, seconds, method, path, script="requests.lua", depth=1):
    """The figures of each of `servers` in its turn, for each round."""
    take_turn = lambda server: load.wrk(
        server, method, path, seconds, depth=depth, ids=server.ids, script=script
    )
    return drive([lambda server=server: take_turn(server) for server in servers], rounds)


def drive(drives, rounds):
    """The figures that each of `drives` returns in its turn, for each round."""
    # The first requests after the start are slower. One round shows that all works, and no more.
    for one in drives if rounds > 1 else []:
        one()
    results = []
    for number in range(rounds):
        # Each comes first in turn.
        first = number % len(drives)
        places = [*range(first, len(drives)), *range(first)]
        turn = {place: drives[place]() for place in places}
        results.append([turn[place] for place in range(len(drives))])
    return results


def median(results, server, figure):
    """The median of one figure of a server, by its place in `servers`, over the rounds."""
    return statistics.median(turns[server][figure] for turns in results)


def ratio(results, server, base, figure):
    """The median of the ratios of two servers, each within one round."""
    return statistics.median(turns[server][figure] / turns[base][figure] for turns in results)


def failed(results):
    """Answers that were not 2xx, and requests without an answer."""
    return sum(result["bad_status"] + result["broken"] for turns in results for result in turns)
