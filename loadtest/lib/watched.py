"""What it costs to be watched and guarded: an older build, this one, and this one with tokens, in turn."""

import statistics
import subprocess
import tempfile
from pathlib import Path

from lib import load, machine
from lib.server import Orchestrator

# Such as use nothing up, so that one pool lasts: name, method, path, script, how many at once.
LOADS = [
    ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 1),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", 1),
    ("lease, keep alive, release", "", "", "cycle.lua", 1),
    ("GET /keys/:id", "GET", "/keys/{id}", "requests.lua", 16),
    ("PUT /keepalive/:id", "PUT", "/keepalive/{id}", "requests.lua", 16),
]
HEAD = ["route", "at once", "before, µs", "now, µs", "with tokens, µs", "now / before", "with tokens / now", "not 2xx"]


class Before(Orchestrator):
    """A build without metrics and tokens."""


def guarded(keys, folder):
    """This build with a token in its file."""
    made = subprocess.run([Orchestrator.BINARY, "token", "new", "--role", "admin"], capture_output=True, text=True, check=True)
    token, line = made.stdout.splitlines()
    tokens = Path(folder) / "tokens"
    tokens.write_text(line + "\n")
    return Orchestrator(keys, "--key-ttl", "1h", "--auth-tokens", str(tokens), token=token)


def rounds(options, servers, method, path, script, depth):
    """What each server made of a load, for each round."""
    slice_of = lambda server: load.wrk(
        server, method, path, options.seconds, depth=depth, ids=server.ids, script=script
    )
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
    with (
        tempfile.TemporaryDirectory() as folder,
        Before(options.keys) as before,
        Orchestrator(options.keys) as now,
        guarded(options.keys, folder) as tokens,
    ):
        for name, method, path, script, depth in LOADS:
            results = list(rounds(options, [before, now, tokens], method, path, script, depth))
            raw[f"{name}, {depth} at once"] = results
            cpu = [[result["cpu_us"] for result in slices] for slices in results]
            ratio = lambda a, b: statistics.median(slices[a] / slices[b] for slices in cpu)
            medians = [f"{statistics.median(figures):.3f}" for figures in zip(*cpu)]
            bad = sum(result["bad_status"] + result["broken"] for slices in results for result in slices)
            rows.append([name, str(depth), *medians, f"{ratio(1, 0):.3f}", f"{ratio(2, 1):.3f}", str(bad)])
            print(f"{name}, {depth} at once: {rows[-1][-3]} of before, with tokens {rows[-1][-2]} of now", flush=True)
    return rows, raw
