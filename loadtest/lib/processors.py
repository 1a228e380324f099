"""What more processors add: server and load together on one, and together on all."""

import os

from lib import machine, rivals, turns
from lib.server import Orchestrator

HEAD = [
    "route", "at once", "requests/s on one processor", "on all", "ratio", "CPU µs/request on one", "on all", "ratio",
    "not 2xx",
]
ONE, ALL = 0, 1
FIXED = [("return 200", "GET", "/keys", "requests.lua", depth) for depth in (1, 16)]


def contestants(options):
    """Name, how it is started, and its loads."""
    yield "", lambda place: Orchestrator(options.keys, shared=place), turns.LOADS
    # Its workers share nothing, so it tells what the machine and its kernel have to give.
    if not machine.missing("nginx"):
        yield "nginx, ", rivals.Nginx, FIXED


def compared(results, figure, form):
    """Cells: on one processor, on all, and the ratio."""
    medians = [format(turns.median(results, place, figure), form) for place in (ONE, ALL)]
    return [*medians, f"{turns.ratio(results, ALL, ONE, figure):.2f}"]


def measure(options):
    """The rows of the table, and everything that was measured."""
    usable = os.sched_getaffinity(0)
    rows, raw = [], {}
    for who, start, loads in contestants(options):
        with start({min(usable)}) as one, start(usable) as on_all:
            for name, method, path, script, depth in loads:
                results = turns.take([one, on_all], turns.ROUNDS, options.seconds, method, path, script, depth)
                raw[f"{who}{name}, {depth} at once"] = results
                figures = [*compared(results, "per_second", ",.0f"), *compared(results, "cpu_us", ".2f")]
                rows.append([who + name, str(depth), *figures, str(turns.failed(results))])
                print(f"{who}{name}, {depth} at once: on all processors {figures[2]} of one", flush=True)
    return rows, raw
