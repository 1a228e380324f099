"""Snapshots and restarts of a server with a data directory: room on disk, what is written, and how long it takes."""

import http.client
import itertools
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

from lib import disk, durable, load

DISK_HEAD, WRITTEN_HEAD, SNAPSHOT_HEAD, RECOVERY_HEAD = (
    ["", "bytes", "bytes a key"],
    ["changes", "entries MB", "written MB", "written / entries"],
    ["snapshot", *durable.DISK_HEAD, "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "p99 of the worst second", "not 2xx"],
    ["after", "keys", "bytes in the directory", "started within", "of it reading", "resident MB at most", "on disk"],
)
# As src/journal/record.rs says.
CREATED_BYTES, CHANGED_BYTES = 33, 28
AT_ONCE = 10_000
# Seconds of load while a snapshot is written, at most: then it has the processor for itself.
SLICES = 10
QUIET_SLICES = 3
SNAPSHOT = r"snapshot: (\d+) bytes"


class Filler:
    """Keeps keys alive as fast as one connection can, so that a snapshot is due. Counts them."""

    def __init__(self, server):
        self.server, self.changes = server, 0
        batches = [server.ids[first : first + AT_ONCE] for first in range(0, len(server.ids), AT_ONCE)]
        self.bodies = itertools.cycle([(len(batch), json.dumps({"keyIds": batch})) for batch in batches])

    def until_snapshot(self):
        """Ends once one is being written."""
        begun = self.server.data / "snapshot.tmp"
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        while not begun.exists():
            count, body = next(self.bodies)
            connection.request("PUT", "/keepalive", body)
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"PUT /keepalive: {answer.status} {answer.read()[:200]}")
            answer.read()
            self.changes += count
        connection.close()


def amplified(name, entries, before, after):
    """A row of what was written for entries of so many bytes. Where the disk does not say, it is left out."""
    if after is None:
        return [name, f"{entries / 1e6:.1f}", "", ""]
    return [name, f"{entries / 1e6:.1f}", f"{(after - before) / 1e6:.1f}", f"{(after - before) / entries:.2f}"]


def counted(server, name, entry_bytes, act):
    """A row of what the server has written for as many changes as `act` says that it made."""
    before = disk.settled(server.data)
    entries = act() * entry_bytes
    return amplified(name, entries, before, disk.settled(server.data))


def keep_alive(server, options, depth):
    result = durable.wrk(server, options, "PUT", "/keepalive/{id}", depth=depth)
    return result["requests"] - result["bad_status"]


def snapshots(options, server):
    """What clients notice of a snapshot, and what is written for one and for all changes before it."""
    filler, rounds, amounts = Filler(server), [], []
    look = lambda: load.wrk(server, "PUT", "/keepalive/{id}", 1, ids=server.ids)
    logged = len([line for _, line in server.lines if re.search(SNAPSHOT, line)])
    for turn in range(options.rounds):
        flush = disk.flushes(server.data)
        quiet = [look() for _ in range(QUIET_SLICES)]
        before, changes = disk.settled(server.data), filler.changes
        filler.until_snapshot()
        begun, busy = time.monotonic() - server.begun, [look()]
        while (server.data / "snapshot.tmp").exists() and len(busy) < SLICES:
            busy.append(look())
        ended, match = server.said(SNAPSHOT, logged + turn + 1)
        changed = filler.changes - changes + sum(result["requests"] for result in busy)
        segments = ", segments are new" if turn == 0 else ""
        name = f"up to snapshot {turn + 1} and with it{segments}"
        amounts.append(amplified(name, changed * CHANGED_BYTES, before, disk.settled(server.data)))
        rounds.append({"flush": flush, "quiet": quiet, "busy": busy, "seconds": ended - begun, "bytes": int(match[1]), "changes": changed})
        print(f"snapshot {turn + 1}: {ended - begun:.1f} s under load, p99 {noticed(rounds[-1]):.2f} of the quiet one", flush=True)
    rows = []
    for name, part in (("none", "quiet"), ("being written", "busy")):
        results = [result for one in rounds for result in one[part]]
        median = lambda figure: f"{statistics.median(result[figure] for result in results):,.0f}"
        failed = sum(result["bad_status"] + result["broken"] for result in results)
        figures = [median(figure) for figure in ("per_second", "p50_us", "p99_us", "p999_us")]
        worst = f"{max(result['p99_us'] for result in results):,}"
        rows.append([name, *durable.disk_cells([one["flush"] for one in rounds]), *figures, worst, str(failed)])
    seconds, ratio = (statistics.median(values) for values in ([one["seconds"] for one in rounds], map(noticed, rounds)))
    text = f"A snapshot took {seconds:.1f} s under that load, and the p99 was {ratio:.2f} times the quiet one."
    return rows, text, amounts, rounds


def noticed(one):
    """How much longer the p99 of a second is while a snapshot is written."""
    busy, quiet = (statistics.median(result["p99_us"] for result in one[part]) for part in ("busy", "quiet"))
    return busy / quiet


def restart(name, folder, keys):
    """A row of how a server started with this directory, which must have all keys."""
    room = disk.used(folder)
    flush = disk.flushes(folder)
    with durable.Durable(folder, "commit") as server:
        _, match = server.said(r"data directory: .*, (\d+) keys, read in (\S+)")
        lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
        most = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    if int(match[1]) != keys:
        raise SystemExit(f"{match[1]} keys came back, of {keys}")
    state = f"{flush[disk.SIZES[0]]['p50_us']:.0f} µs a flush"
    row = [name, f"{keys:,}", f"{room:,}", f"{server.started:.2f} s", match[2], f"{most / 1e6:.0f}", state]
    print(f"start after {name}: {server.started:.2f} s", flush=True)
    return row, {"after": name, "keys": keys, "bytes": room, "seconds": server.started, "read": match[2], "resident": most, "flush": flush}


def measure(options, folder):
    """The rows of the tables, what is to be said of the snapshots, and everything that was measured."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="recovery-") as data:
        data = Path(data)
        with durable.Durable(data, "commit") as server:
            create = lambda: server.create(options.keys) or options.keys
            amounts = [counted(server, "keys created, many at a time", CREATED_BYTES, create)]
            ids = server.ids = server.ids[: durable.IDS]
            for depth in (1, durable.DEPTH):
                name = f"kept alive, {load.connections * depth:,} requests outstanding"
                amounts.append(counted(server, name, CHANGED_BYTES, lambda: keep_alive(server, options, depth)))
            server.process.kill()
            server.process.wait()
        starts = [restart("kill -9", data, options.keys)]
        with durable.Durable(data, "commit") as server:
            server.ids = ids
            noticed, text, more, raw = snapshots(options, server)
            room = [("snapshot", disk.used(data, "snapshot-")), ("segments, which are used again", disk.used(data, "segment"))]
        starts.append(restart("a snapshot and SIGTERM", data, options.keys))
    raw = {"snapshots": raw, "amplification": amounts + more, "starts": [start for _, start in starts], "room": room}
    used = [[name, f"{size:,}", f"{size / options.keys:.1f}"] for name, size in room]
    return used, amounts + more, (noticed, text), [row for row, _ in starts], raw
