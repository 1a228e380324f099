"""What the load test runs on: processors, tools, versions."""

import datetime
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"

INSTALL = {
    "wrk": "apt-get install wrk",
    "oha": "cargo install oha --locked",
    "h2load": "apt-get install nghttp2-client",
    "nginx": "apt-get install nginx-light",
    "redis-server": "apt-get install redis-server",
    "beanstalkd": "apt-get install beanstalkd",
    "gcc": "apt-get install gcc",
}


def missing(tool):
    """Whether a tool is missing. If so, prints how to install it."""
    if find(tool):
        return False
    print(f"{tool} is missing, so what it measures is left out: {INSTALL[tool]}", flush=True)
    return True


def find(tool):
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:" + str(Path.home() / ".cargo/bin"))


def cores():
    """The processors for the server and for the load: different ones where there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def pinned(cores):
    """Arguments for subprocess that pin a process to a set of processors."""
    return {"preexec_fn": lambda: os.sched_setaffinity(0, cores)}


def output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe(command):
    """Everything that makes figures comparable, as pairs of name and value."""
    changed = output("git", "status", "--porcelain", "--untracked-files=no")
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    server_cores, load_cores = cores()
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": output("git", "rev-parse", "--short=12", "HEAD") + (" and changes" if changed else ""),
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, {memory_kib / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "pinning": "server and load on different cores" if server_cores != load_cores else "one core for both",
        "rustc": output("rustc", "--version"),
        # A missing tool has an empty line.
        "wrk": output("wrk", "-v").split(" [")[0],
        "oha": output(find("oha") or "oha", "--version"),
        "nginx": output(find("nginx") or "nginx", "-v").removeprefix("nginx version: "),
        "redis": output("redis-server", "--version").split(" sha")[0],
        "beanstalkd": output(find("beanstalkd") or "beanstalkd", "-v"),
        "h2load": output("h2load", "--version"),
    }


def results_dir():
    """`loadtest/results/<date>-<machine>/`."""
    slug = re.sub(r"[^a-z0-9]+", "-", cpu_model().lower().replace("(r)", "")).strip("-")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    path = ROOT / "loadtest" / "results" / f"{date}-{slug}-{os.cpu_count()}-cores"
    path.mkdir(parents=True, exist_ok=True)
    return path
