"""What more primaries add, and a second server: loads on clusters of several sizes, in turns."""

import contextlib

from lib import served, turns
from lib.cluster import KEYS, Cluster

# Each has twice as many as the one before.
PRIMARIES = (1, 2, 4)
# Of twice the primaries, for each unit of their CPU time.
AIM = 0.85
# How wrk is called, and whether there are more clients where there are more primaries.
LOADS = ((served.CYCLE, True), (served.CROWD, False))
HEAD = [
    "requests", "outstanding", "primaries", "servers", "requests/s", "calls a request", "CPU µs of the primaries a request",
    "requests/CPU s of the primaries", "the same / the row above", "CPU µs of the servers", "not 2xx",
]


@contextlib.contextmanager
def setups(options):
    """Clusters, each with its servers: one for each number of primaries, and the last cluster again with two servers."""
    with contextlib.ExitStack() as stack:
        # All form at the same time.
        clusters = [stack.enter_context(Cluster(primaries, options.replicas)) for primaries in PRIMARIES]
        for cluster in clusters:
            cluster.form()
        servers = [stack.enter_context(cluster.server(min(options.keys, KEYS))) for cluster in clusters]
        second = stack.enter_context(clusters[-1].server())
        second.ids = servers[-1].ids
        yield [(cluster, [server]) for cluster, server in zip(clusters, servers)] + [(clusters[-1], [servers[-1], second])]


def times(place, grows):
    """How many clients a place has, for each one that was asked for."""
    return len(place[0].primaries) if grows else 1


def row(place, how, grows, results, number):
    cluster, servers = place
    median = lambda figure, form: format(turns.median(results, number, figure), form)
    # More requests for each second of CPU time are fewer seconds for each request.
    ratio = f"{turns.ratio(results, number - 1, number, 'engine_us'):.2f}" if number else ""
    each = turns.median(results, number, "engine_us")
    sizes = [f"{served.outstanding(how) * times(place, grows):,}", str(len(cluster.primaries)), str(len(servers))]
    figures = [median("per_second", ",.0f"), median("calls", ".2f"), f"{each:.2f}", f"{1e6 / each:,.0f}", ratio, median("cpu_us", ".2f")]
    return [how[0], *sizes, *figures, str(turns.failed([turn[number : number + 1] for turn in results]))]


def measure(options, places):
    """The rows of the table, and everything that was measured."""
    rows, raw = [], {}
    for how, grows in LOADS:
        drives = [lambda place=place: served.drive(*place, options.seconds, how, times(place, grows)) for place in places]
        results = turns.drive(drives, options.rounds)
        raw[f"{how[0]}, {served.outstanding(how)} outstanding"] = results
        rows += [row(place, how, grows, results, number) for number, place in enumerate(places)]
        for each in rows[1 - len(places) :]:
            print(f"primaries {each[2]}, servers {each[3]}: {each[-3]} of the requests for each CPU s", flush=True)
    return rows, raw
