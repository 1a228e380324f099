"""What it costs to be watched and guarded: an older build, this one, and this one with tokens, in turn."""

import statistics
import subprocess
import tempfile
from pathlib import Path

from lib import load, machine
from lib.server import Orchestrator

ROUTES = [
    ("GET /keys", "GET", "/keys"),
    ("GET /keys/:id", "GET", "/keys/{id}"),
    ("PUT /keys/:id", "PUT", "/keys/{id}"),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}"),
]
DEPTHS = (1, 16)
HEAD = ["route", "at once", "before, µs", "now, µs", "with tokens, µs", "now / before", "with tokens / now"]


class Before(Orchestrator):
    """A build without metrics and tokens."""


def guarded(keys, folder):
    """This build with a token in its file."""
    made = subprocess.run([Orchestrator.BINARY, "token", "new", "--role", "admin"], capture_output=True, text=True, check=True)
    token, line = made.stdout.splitlines()
    tokens = Path(folder) / "tokens"
    tokens.write_text(line + "\n")
    return Orchestrator(keys, "--key-ttl", "1h", "--auth-tokens", str(tokens), token=token)


def rounds(options, method, path, depth, folder):
    """CPU time of a request of each server, for each round."""
    # A fresh pool each time: some routes use it up, one very fast.
    keys = options.keys * (3 if (path, depth) == ("/keys", 16) else 1)
    with Before(keys) as before, Orchestrator(keys) as now, guarded(keys, folder) as tokens:
        servers = [before, now, tokens]
        if (method, path) == ("PUT", "/keys/{id}"):
            for server in servers:
                load.lease_all(server)
        slice_of = lambda server: load.wrk(server, method, path, options.seconds, depth=depth, ids=server.ids)
        # The first requests after the start are slower.
        for server in servers:
            slice_of(server)
        for number in range(options.rounds):
            # Each comes first as often as the others.
            order = servers[number % 3 :] + servers[: number % 3]
            results = {id(server): slice_of(server) for server in order}
            yield [results[id(server)] for server in servers]


def measure(options):
    """The rows of the table, and everything that was measured."""
    Before.BINARY = Path(options.before).resolve()
    rows, raw = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name, method, path in ROUTES:
            for depth in DEPTHS:
                results = list(rounds(options, method, path, depth, folder))
                raw[f"{name}, {depth} at once"] = results
                cpu = [[result["cpu_us"] for result in slices] for slices in results]
                ratio = lambda a, b: statistics.median(slices[a] / slices[b] for slices in cpu)
                medians = [f"{statistics.median(figures):.3f}" for figures in zip(*cpu)]
                rows.append([name, str(depth), *medians, f"{ratio(1, 0):.3f}", f"{ratio(2, 1):.3f}"])
                print(f"{name}, {depth} at once: {rows[-1][-2]} of before, with tokens {rows[-1][-1]} of now", flush=True)
    return rows, raw
