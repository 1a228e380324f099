"""What a lease costs the engine: in groups, beside a bare script, and through a server under load."""

import random
import statistics
import time

from lib import load, served, turns
from lib.cluster import KEYS, SHARDS, Cluster
from lib.library import Bare, Library

AIM = 1.3
GROUPS = (64, 8, 1)
LOADS = (served.CYCLE, served.CROWD, served.DEEP)
# So many are leased before they are released, and no more than this part of the keys: those that are left are as hard to draw.
AT_ONCE, PART = 12_800, 8
HEAD = ["engine", "in groups of", "operation", "bare, CPU µs of the engine", "ours", "ours / bare"]
LOAD_HEAD = [
    "requests", "outstanding", "requests/s", "calls a request", "CPU µs of the engine a request", "the same / a bare lease", "CPU µs of the server",
    "not 2xx",
]


def cpu(node, store, options, group):
    """CPU µs of the engine for a lease and for a release: groups are leased, then released, and so on."""
    groups = max(1, min(AT_ONCE, min(options.keys, KEYS) // PART) // group)
    lease, release, count, end = 0, 0, 0, time.monotonic() + options.seconds / 4
    while not count or time.monotonic() < end:
        before = node.cpu_seconds()
        leased = [(shard, store.lease(shard, group)) for shard in random.choices(range(SHARDS), k=groups)]
        between = node.cpu_seconds()
        for shard, keys in leased:
            store.release(shard, keys)
        lease, release = lease + between - before, release + node.cpu_seconds() - between
        count += sum(len(keys) for _, keys in leased)
    return {"lease": lease * 1e6 / count, "release": release * 1e6 / count, "leases": count}


def direct_drives(cluster, options):
    """For each size of a group, the bare script and the library."""
    node = cluster.primaries[0]
    stores = [Bare(node, (load.LUA / "bare.lua").read_text(), min(options.keys, KEYS)), Library(node)]
    return [lambda store=store, group=group: cpu(node, store, options, group) for group in GROUPS for store in stores]


def direct_rows(place, first, results):
    """Of an engine whose drives begin with the number `first`."""
    for number, group in enumerate(GROUPS):
        bare, ours = first + 2 * number, first + 2 * number + 1
        for what in ("lease", "release"):
            costs = [f"{turns.median(results, store, what):.2f}" for store in (bare, ours)]
            yield [place, str(group), what, *costs, f"{turns.ratio(results, ours, bare, what):.2f}"]


def load_rows(results):
    for number, how in enumerate(LOADS):
        median = lambda figure, form: format(turns.median(results, number, figure), form)
        ratio = statistics.median(turn[number]["engine_us"] / turn[len(LOADS)]["lease"] for turn in results)
        figures = [median("per_second", ",.0f"), median("calls", ".2f"), median("engine_us", ".2f"), f"{ratio:.2f}", median("cpu_us", ".2f")]
        yield [how[0], f"{served.outstanding(how):,}", *figures, str(turns.failed([turn[number : number + 1] for turn in results]))]


def measure(options, replicated):
    """The rows of the two tables, and everything that was measured: on an engine alone, and directly on the cluster `replicated`."""
    with Cluster(1) as alone:
        alone.form()
        with alone.server(min(options.keys, KEYS)) as server:
            drives = [lambda how=how: served.drive(alone, [server], options.seconds, how) for how in LOADS]
            drives += direct_drives(alone, options)
            drives += direct_drives(replicated, options) if options.replicas else []
            results = turns.drive(drives, options.rounds)
    rows = list(direct_rows("alone", len(LOADS), results))
    if options.replicas:
        rows += direct_rows("with a replica", len(LOADS) + 2 * len(GROUPS), results)
    print(f"leases in groups of {GROUPS[0]}: {rows[0][-1]} of a bare script", flush=True)
    return rows, list(load_rows(results)), results
