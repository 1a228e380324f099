"""What more processors add: server and load together on one, and together on all."""

import contextlib
import os

from lib import machine, rivals, turns
from lib.server import Orchestrator

HEAD = [
    "requests", "at once", "requests/s on one processor", "on all", "ratio", "nginx's", "CPU µs/request on one", "on all",
    "ratio", "nginx's", "not 2xx",
]
# Places in the list of servers.
ONE, ALL, NGINX_ONE, NGINX_ALL = range(4)


@contextlib.contextmanager
def servers(options):
    """This one and nginx, each on one processor and on all.

    Workers of nginx share nothing: what they gain, the machine and its kernel have to give. To any
    request it gives the same answer, so it gets the same ones."""
    usable = os.sched_getaffinity(0)
    places = [{min(usable)}, usable]
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Orchestrator(options.keys, shared=place)) for place in places]
        if not machine.missing("nginx"):
            for server in started[:]:
                rival = stack.enter_context(rivals.Nginx(server.load_cores))
                rival.ids = server.ids
                started.append(rival)
        yield started


def compared(results, figure, form):
    """Cells: on one processor, on all, the ratio, and that of nginx."""
    medians = [format(turns.median(results, place, figure), form) for place in (ONE, ALL)]
    pairs = [(ALL, ONE), (NGINX_ALL, NGINX_ONE)][: len(results[0]) // 2]
    ratios = [f"{turns.ratio(results, *pair, figure):.2f}" for pair in pairs]
    return [*medians, *ratios, *[""] * (2 - len(ratios))]


def measure(options):
    """The rows of the table, and everything that was measured."""
    rows, raw = [], {}
    with servers(options) as started:
        for name, method, path, script, depth in turns.LOADS:
            results = turns.take(started, options.rounds, options.seconds, method, path, script, depth)
            raw[f"{name}, {depth} at once"] = results
            figures = [*compared(results, "per_second", ",.0f"), *compared(results, "cpu_us", ".2f")]
            rows.append([name, str(depth), *figures, str(turns.failed(results))])
            print(f"{name}, {depth} at once: on all processors {figures[2]} of one, nginx {figures[3]}", flush=True)
    return rows, raw
