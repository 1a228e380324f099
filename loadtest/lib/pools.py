"""What pools with names cost: their requests, their keys with values, and very many of them at once."""

import contextlib
import http.client
import json
import statistics
import time

from lib import expiry, turns
from lib.server import BATCH, Orchestrator

NAME = "openai"
COST_HEAD = ["route", "at once", "CPU µs/request, default", "of a named pool", "ratio", "not 2xx"]
BYTES_HEAD = ["keys", "bytes a key"]
SWEEP_HEAD = ["pools", "keys in each", "lag p50", "lag p99", "lag at most", "last key gone after its life"]
POOLS = 1000
# As long as a key of a well-known provider.
VALUE_CHARACTERS = 51
# Long enough to create all keys before the first of them dies.
LIFE_S = 30


def ask(connection, method, path, body=None):
    """The answer to a request, which must not be refused."""
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 201):
        raise SystemExit(f"{method} {path}: {answer.status} {text[:200]}")
    return json.loads(text)


def connect(server):
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)


@contextlib.contextmanager
def named(keys):
    """A server whose keys are all in a pool with a name."""
    with Orchestrator() as server:
        connection = connect(server)
        ask(connection, "PUT", f"/pools/{NAME}", '{"keyTtl":"1h"}')
        server.prefix = f"/pools/{NAME}"
        server.create(keys)
        connection.close()
        yield server


def cost(options):
    """Requests for a pool with a name beside those for the default pool."""
    rows, raw = [], {}
    with Orchestrator(options.keys) as default, named(options.keys) as other:
        for name, method, path, script, depth in turns.LOADS:
            results = turns.take([default, other], options.rounds, options.seconds, method, path, script, depth)
            cpu = [turns.median(results, place, "cpu_us") for place in (0, 1)]
            ratio = turns.ratio(results, 1, 0, "cpu_us")
            rows.append([name, str(depth), f"{cpu[0]:.3f}", f"{cpu[1]:.3f}", f"{ratio:.3f}", str(turns.failed(results))])
            raw[f"{name}, {depth}"] = results
            print(f"{name}, {depth} at once: {ratio:.3f}", flush=True)
    return rows, raw


def values(keys, label=None):
    """A server with so many keys that have values."""
    server = Orchestrator()
    connection = connect(server)
    for first in range(0, keys, BATCH // 4):
        numbers = range(first, min(first + BATCH // 4, keys))
        entries = [{"value": f"sk-{number:0{VALUE_CHARACTERS - 3}}", **({"labels": label} if label else {})} for number in numbers]
        ask(connection, "POST", "/keys", json.dumps({"keys": entries}))
    connection.close()
    return server


def memory(options):
    """Resident bytes of a key."""
    with Orchestrator() as empty:
        before = empty.resident_bytes()
    kinds = [
        ("generated", lambda: Orchestrator(options.keys)),
        ("generated, in a pool with a name", lambda: named(options.keys)),
        (f"a value of {VALUE_CHARACTERS} characters", lambda: values(options.keys)),
        (f"a value of {VALUE_CHARACTERS} characters and a label", lambda: values(options.keys, {"plan": "pro"})),
    ]
    figures = {}
    for name, make in kinds:
        with make() as server:
            figures[name] = (server.resident_bytes() - before) / options.keys
    return [[name, f"{used:.0f}"] for name, used in figures.items()], figures


def sweep(options, pools):
    """All keys of so many pools die, and are as many for any number of pools."""
    each = max(1, options.keys // pools)
    with Orchestrator(0, "--key-ttl", f"{LIFE_S}s", "--max-pools", str(pools + 1)) as server:
        connection = connect(server)
        for number in range(pools):
            ask(connection, "PUT", f"/pools/p{number}")
            for first in range(0, each, BATCH):
                ask(connection, "POST", f"/pools/p{number}/keys", json.dumps({"count": min(BATCH, each - first)}))
        born, lags = time.monotonic(), []
        # Counting all pools is work, so it is not done more often than Prometheus might.
        while True:
            time.sleep(0.1)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
            lags += [float(value) for name, value in lines if name == "token_orchestrator_sweep_lag_seconds"]
            if not any(float(value) for name, value in lines if name.startswith("token_orchestrator_keys{")):
                break
        gone = time.monotonic() - born - LIFE_S
        connection.close()
    dying = [lag for lag in lags if lag > 0] or [0.0]
    milliseconds = [f"{1000 * lag:.0f} ms" for lag in (statistics.median(dying), expiry.percentile(dying, 99), max(dying))]
    return [f"{pools:,}", f"{each:,}", *milliseconds, f"{max(0.0, gone):.1f} s"], {"lags": lags, "gone": gone}


def measure(options):
    """The rows of the three tables, and everything that was measured."""
    requests, raw = cost(options)
    keys, bytes_used = memory(options)
    few = min(POOLS, options.keys)
    sweeps, storms = zip(*[sweep(options, pools) for pools in (1, few)])
    return requests, keys, list(sweeps), {"cost": raw, "bytes a key": bytes_used, "sweep": storms}
