"""Many keys in the engine: the bytes that they need, and the longest call while many of them die."""

import concurrent.futures
import json
import random
import statistics
import time

from lib import report, served
from lib.cluster import SHARDS
from lib.library import EPOCH_S, Library
from lib.pools import ask, connect
from lib.server import BATCH

AIM_BYTES = 300
AIM_MS = 5
BYTES_HEAD = ["keys", "bytes a key"]
STORM_HEAD = ["while", "requests/s", "p99", "calls over 1 ms", f"over {AIM_MS} ms", "longest call", "the worst of all rounds", "last key gone after its life"]
# The most keys that are leased to see what that takes, and in what groups.
LEASED, GROUP = 1_000_000, 64
# A tenth of the keys die at once: they are created in steps, whose lives have one end.
PART, STEP = 10, 5000
# Between two looks whether all of them are gone, as of a tool that watches the server.
PAUSE_S = 0.25
SLOW_US = 1000


def fill(server, keys):
    """Creates keys whose ids nobody needs."""
    connection = connect(server)
    for first in range(0, keys, BATCH):
        ask(connection, "POST", "/keys", json.dumps({"count": min(BATCH, keys - first)}))
    connection.close()


def memory(cluster, server, keys):
    """Fills the pool. Bytes of a key that was created, and of one that is leased as well."""
    before = cluster.used_memory()
    fill(server, keys)
    filled = cluster.used_memory()
    library, leased = Library(cluster.primaries[0]), 0
    while leased < min(LEASED, keys // 2):
        leased += len(library.lease(random.randrange(SHARDS), GROUP))
    created = (filled - before) / keys
    return {"created": created, "leased": created + (cluster.used_memory() - filled) / leased}


def create_mortal(server, keys, life):
    """Creates keys that all die when that many seconds are over, and returns when that is."""
    connection, end = connect(server), time.monotonic() + life
    for first in range(0, keys, STEP):
        left = end - time.monotonic()
        if left < 1:
            raise SystemExit(f"{keys:,} keys take longer to create than they live: {life:.0f} s")
        ask(connection, "PUT", "/pools/default", json.dumps({"keyTtl": f"{left * 1000:.0f}ms"}))
        ask(connection, "POST", "/keys", json.dumps({"count": min(STEP, keys - first)}))
    ask(connection, "PUT", "/pools/default", '{"keyTtl":"1h"}')
    connection.close()
    return end


def overdue(node):
    """How many keys are dead and not yet gone."""
    return sum(node.ask("ZCOUNT", f"{{to/0/{shard}}}l", "-inf", int((time.time() - EPOCH_S) * 1000)) for shard in range(SHARDS))


def watched(cluster, server, options, is_over):
    """The figures of a load that lasts until `is_over`, and what the engine was slow at."""
    node, connection = cluster.primaries[0], connect(server)
    node.ask("CONFIG", "SET", "slowlog-log-slower-than", SLOW_US, "slowlog-max-len", 100_000)
    node.ask("SLOWLOG", "RESET")
    calls, results = cluster.calls(), []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        while not results or not is_over():
            loading = pool.submit(served.drive, cluster, [server], options.seconds, served.CYCLE)
            while not loading.done():
                ask(connection, "GET", "/stats")
                is_over()
                time.sleep(PAUSE_S)
            results.append(loading.result())
    connection.close()
    slow = sorted((entry[2] for entry in node.ask("SLOWLOG", "GET", -1)), reverse=True)
    return {"loads": results, "calls": cluster.calls() - calls, "slow_us": slow}


def storm(cluster, server, options, life):
    """The figures of the load before and while a tenth of the keys dies, and when the last of them is gone."""
    quiet = watched(cluster, server, options, lambda: True)
    end, gone = create_mortal(server, options.keys // PART, life), []
    time.sleep(max(0, end - time.monotonic() - PAUSE_S))

    def is_over():
        since = time.monotonic() - end
        if not gone and since > 0 and not overdue(cluster.primaries[0]):
            gone.append(since)
        return bool(gone)

    dying = watched(cluster, server, options, is_over)
    return {"quiet": quiet, "dying": dying | {"gone": gone[0]}}


def storm_rows(options, storms):
    for name, kind in [("no key dies", "quiet"), (f"{options.keys // PART:,} keys die", "dying")]:
        figures = [one[kind] for one in storms]
        median = lambda of: statistics.median(map(of, figures))
        longest = lambda one: one["slow_us"][0] / 1000 if one["slow_us"] else 0
        ms = lambda most: f"{most:.1f} ms" if most else f"under {SLOW_US / 1000:.0f} ms"
        yield [
            name,
            f"{median(lambda one: statistics.mean(load['per_second'] for load in one['loads'])):,.0f}",
            report.time(median(lambda one: max(load["p99_us"] for load in one["loads"]))),
            *[f"{median(lambda one: sum(us > limit for us in one['slow_us'])):.0f}" for limit in (SLOW_US, AIM_MS * 1000)],
            ms(median(longest)),
            ms(max(map(longest, figures))),
            f"{median(lambda one: one['gone']):.1f} s" if kind == "dying" else "",
        ]


def measure(options, cluster, server):
    """The rows of the two tables, and everything that was measured."""
    began = time.monotonic()
    used = memory(cluster, server, options.keys - options.keys // PART)
    print(", ".join(f"{name}: {each:.0f} bytes a key" for name, each in used.items()), flush=True)
    cluster.go_first()
    # Twice as long as it should take to create those that die.
    life = 3 + 2 * (time.monotonic() - began) / (PART - 1)
    storms = [storm(cluster, server, options, life) for _ in range(options.rounds)]
    rows = list(storm_rows(options, storms))
    print(f"while a tenth of the keys dies, the longest call takes {rows[-1][-3]}", flush=True)
    return [[name, f"{each:.0f}"] for name, each in used.items()], rows, {"bytes a key": used, "storms": storms}
