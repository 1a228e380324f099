"""What more processors add: server and load together on one, and together on all."""

import contextlib
import os

from lib import machine, rivals, turns
from lib.server import Orchestrator

HEAD = ["requests", "at once", "on one processor", "on all", "ratio", "nginx on one", "nginx on all", "ratio of nginx", "not 2xx"]


@contextlib.contextmanager
def servers(options):
    """This one and, if it is there, nginx, each on one processor and on all.

    Workers of nginx share nothing. To any request it gives the same answer, so it gets the same ones."""
    usable = os.sched_getaffinity(0)
    if len(usable) < 2:
        raise SystemExit("nothing can be compared without a second processor")
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Orchestrator(options.keys, shared=place)) for place in ({min(usable)}, usable)]
        if not machine.missing("nginx"):
            for server in started[:]:
                rival = stack.enter_context(rivals.Nginx(server.load_cores))
                rival.ids = server.ids
                started.append(rival)
        yield started


def cells(results, figure, form):
    """For each of this server and nginx: on one processor, on all, and the ratio."""
    for one in (0, 2):
        if one < len(results[0]):
            yield from (format(turns.median(results, place, figure), form) for place in (one, one + 1))
            yield f"{turns.ratio(results, one + 1, one, figure):.2f}"
        else:
            yield from [""] * 3


def measure(options):
    """Rows of a table of requests a second and of one of CPU time, and everything that was measured."""
    served, cpu, raw = [], [], {}
    with servers(options) as started:
        for name, method, path, script, depth in turns.LOADS:
            results = turns.take(started, options.rounds, options.seconds, method, path, script, depth)
            raw[f"{name}, {depth} at once"] = results
            for rows, figure, form in ((served, "per_second", ",.0f"), (cpu, "cpu_us", ".2f")):
                rows.append([name, str(depth), *cells(results, figure, form), str(turns.failed(results))])
            print(f"{name}, {depth} at once: on all processors {served[-1][4]} of one", flush=True)
    return served, cpu, raw
