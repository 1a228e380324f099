"""What honest clients notice of attacks: quiet and attacked periods in turn, on one server."""

import statistics
import time

from lib import attack, load
from lib.server import Orchestrator

HEAD = [
    "attack", "at a rate of", "quiet p50 µs", "p50 µs", "quiet p99 µs", "p99 µs", "p99 ratio", "requests/s ratio",
    "not 2xx", "resident MB",
]
AIM = 3


def cycle(server, seconds):
    """Leases, keep-alives and releases."""
    return load.wrk(server, "", "", seconds, script="cycle.lua")


def attacked(options, act):
    """Pairs of a quiet period and one under attack."""
    with Orchestrator(options.keys) as server:
        # The first requests after the start are slower.
        cycle(server, 1)
        for _ in range(options.rounds):
            quiet = cycle(server, options.seconds)
            with attack.under(act, server) as done:
                before, begin = done.value, time.monotonic()
                hostile = cycle(server, options.seconds)
                rate = (done.value - before) / (time.monotonic() - begin)
                hostile |= {"attack_rate": rate, "attack_total": done.value, "resident": server.resident_bytes()}
            yield quiet, hostile


def measure(options):
    """The rows of the table, and everything that was measured."""
    rows, raw = [], {}
    for name, act, rate in attack.ATTACKS:
        pairs = list(attacked(options, act))
        raw[name] = [{"quiet": quiet, "attacked": hostile} for quiet, hostile in pairs]
        median = lambda which, figure: statistics.median(pair[which][figure] for pair in pairs)
        ratio = lambda figure: statistics.median(hostile[figure] / quiet[figure] for quiet, hostile in pairs)
        rows.append([
            name,
            rate.format(rate=median(1, "attack_rate"), total=int(median(1, "attack_total"))),
            *[f"{median(which, figure):,.0f}" for figure in ("p50_us", "p99_us") for which in (0, 1)],
            f"{ratio('p99_us'):.2f}",
            f"{ratio('per_second'):.2f}",
            str(sum(result["bad_status"] + result["broken"] for pair in pairs for result in pair)),
            f"{median(1, 'resident') / 1e6:.0f}",
        ])
        print(f"{name}: p99 {rows[-1][6]} times the quiet one", flush=True)
    return rows, raw
