"""What metrics and tokens cost: an older build, this one, and this one with tokens, in turn."""

import subprocess
import tempfile
from pathlib import Path

from lib import turns
from lib.server import Orchestrator

HEAD = ["route", "at once", "before, µs", "now, µs", "with tokens, µs", "now / before", "with tokens / now", "not 2xx"]


class Before(Orchestrator):
    """An older build to compare with."""


def guarded(keys, folder):
    """This build with a token in its file."""
    made = subprocess.run([Orchestrator.BINARY, "token", "new", "--role", "admin"], capture_output=True, text=True, check=True)
    token, line = made.stdout.splitlines()
    tokens = Path(folder) / "tokens"
    tokens.write_text(line + "\n")
    return Orchestrator(keys, "--key-ttl", "1h", "--auth-tokens", str(tokens), token=token)


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
        servers = [before, now, tokens]
        for name, method, path, script, depth in turns.LOADS:
            results = turns.take(servers, options.rounds, options.seconds, method, path, script, depth)
            raw[f"{name}, {depth} at once"] = results
            medians = [f"{turns.median(results, server, 'cpu_us'):.3f}" for server in range(3)]
            ratios = [f"{turns.ratio(results, server, server - 1, 'cpu_us'):.3f}" for server in (1, 2)]
            rows.append([name, str(depth), *medians, *ratios, str(turns.failed(results))])
            print(f"{name}, {depth} at once: {rows[-1][-3]} of before, with tokens {rows[-1][-2]} of now", flush=True)
    return rows, raw
