"""The disk below a data directory: how fast it flushes, and what a server writes to it."""

import os
import tempfile
import time
from pathlib import Path

from lib import machine

# A record, and as many of them as a commit of a busy server has.
SIZES = (50, 1400)
FILE_BYTES = 4 << 20
PROBE_S = 0.3
LEAST = 30
QUIET_S = 0.5
QUIET_BYTES = 1 << 20
SETTLED_WITHIN = 20


def kind(folder):
    """The file system that a folder is on."""
    return machine.output("stat", "--file-system", "--format=%T", str(folder))


def percentile(values, share):
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]


def flushes(folder):
    """Percentiles of what writing so many bytes and flushing them takes: a bare loop, on the processor of the server.

    The file is filled before, so that a flush writes nothing about it."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, machine.cores()[0])
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(FILE_BYTES))
            os.fsync(file.fileno())
            return {size: probe(file.fileno(), size) for size in SIZES}
    finally:
        os.sched_setaffinity(0, usable)


def probe(file, size):
    record, offset, taken = bytes(range(1, 51)) * (size // 50), 0, []
    end = time.monotonic() + PROBE_S
    while time.monotonic() < end or len(taken) < LEAST:
        begin = time.perf_counter()
        os.pwrite(file, record, offset)
        os.fdatasync(file)
        taken.append((time.perf_counter() - begin) * 1e6)
        offset = (offset + size) % (FILE_BYTES - size)
    return {"p50_us": percentile(taken, 50), "p99_us": percentile(taken, 99)}


def written(folder):
    """Bytes that were written to the disk of a folder, by whomever.

    What the kernel counts for a process is too much: a change of a page that is cached as a part of a mebibyte counts as
    one of that whole."""
    device = os.stat(folder).st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(stat.read_text().split()[6]) * 512 if stat.exists() else None


def settled(folder):
    """The same, once hardly anything more is written: segments are made in the background. Waits for a while at most."""
    now = written(folder)
    for _ in range(SETTLED_WITHIN):
        before = now
        time.sleep(QUIET_S)
        now = written(folder)
        if now is None or now - before < QUIET_BYTES:
            break
    return now


def used(folder, prefix=""):
    """Bytes of the files of a directory whose names begin so."""
    return sum(file.stat().st_size for file in Path(folder).glob(f"{prefix}*"))
