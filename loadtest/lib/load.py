"""Load generators, and what they measure."""

import contextlib
import json
import os
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

from lib import machine

# Keep-alive connections of every load, of each of its processors; set by the command line.
connections = 64

LUA = Path(__file__).resolve().parents[1] / "lua"
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def wrk(server, method, path, seconds, depth=1, ids=None, script="requests.lua", fields=()):
    """Drives `server` with wrk, a process and a part of `ids` for each processor of the load.
    Returns figures; `cpu_us` is that of a request."""
    parts = len(server.load_cores)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(LUA / script)]
    for name, value in [*server.fields.items(), *fields]:
        command += ["-H", f"{name}: {value}"]
    with tempfile.TemporaryDirectory() as folder:
        envs = []
        for part in range(parts):
            file = Path(folder) / str(part)
            file.write_text("\n".join((ids or [])[part::parts]))
            envs.append({
                **os.environ,
                "METHOD": method,
                "PATH_TEMPLATE": server.prefix + path,
                "PREFIX": server.prefix,
                "DEPTH": str(depth),
                "IDS": str(file),
                "START": str(random.randrange(1 << 30)),
                "COMMON": str(LUA / "common.lua"),
            })
        return measure(server, [*command, f"{server.scheme}://127.0.0.1:{server.port}"], parse_wrk, envs)


def lease_all(server):
    """Leases every key, so that each release that follows is a real one."""
    while wrk(server, "GET", "/keys", 1, depth=16)["bad_status"] == 0:
        pass


def oha(server, method, path, seconds):
    """Drives `server` with oha."""
    command = [machine.find("oha"), "--no-tui", "--output-format", "json", "-c", str(connections)]
    command += ["-z", f"{seconds}s", "-w", "-m", method, f"http://127.0.0.1:{server.port}{path}"]
    return measure(server, command, parse_oha)


def h2load(server, path, seconds, streams=1):
    """Drives `server` with HTTP/2, by prior knowledge or ALPN, so many streams a connection at a time."""
    url = f"{server.scheme}://127.0.0.1:{server.port}{path}"
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", url]
    return measure(server, command, parse_h2load)


def redis_benchmark(server, requests, depth=1):
    """Drives Redis with its own load generator and the script that leases a key."""
    command = ["redis-benchmark", "-p", str(server.port), "-c", str(connections), "-n", str(requests)]
    command += ["-P", str(depth), "--csv", "EVALSHA", server.lease, "0", "1700000000000"]
    return measure(server, command, lambda text: parse_redis(text, requests))


def measure(server, command, parse, envs=None):
    """Runs `command` on each processor of the load. With an environment for each, all report when they
    are ready, and then begin together."""
    cores = sorted(server.load_cores)
    with contextlib.ExitStack() as stack:
        processes = []
        for core, env in zip(cores, envs or [None] * len(cores)):
            process = stack.enter_context(subprocess.Popen(command, env=env, text=True, **PIPES, **machine.pinned({core})))
            stack.callback(process.kill)
            processes.append(process)
        if envs and any(process.stdout.readline() != "READY\n" for process in processes):
            raise SystemExit(f"{command[0]} did not begin: {[process.communicate() for process in processes]}")
        cpu, start = server.cpu_seconds(), time.monotonic()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate() for process in processes]
        cpu, elapsed = server.cpu_seconds() - cpu, time.monotonic() - start
    for process, (out, err) in zip(processes, outputs):
        if process.returncode != 0:
            raise SystemExit(f"{command[0]} failed: {err or out}")
    result = together([parse(out) for out, _ in outputs])
    if result["requests"] == 0:
        raise SystemExit(f"{command[0]}: not one answer: {outputs}")
    result["cpu_us"] = cpu * 1e6 / result["requests"]
    result["cpu_share"] = cpu / elapsed
    return result


def together(results):
    """Sums of the figures; of latencies, the worst."""
    return {name: (max if name.endswith("_us") else sum)(result[name] for result in results) for name in results[0]}


def parse_wrk(text):
    line = next(line for line in text.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    result["per_second"] = result["requests"] / result.pop("seconds")
    return result


def parse_h2load(text):
    requests = int(re.search(r"requests: (\d+) total", text)[1])
    per_second = float(re.search(r"([\d.]+) req/s", text)[1])
    # Those that were cut off at the end have no status.
    bad = sum(map(int, re.search(r"2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text).groups()))
    return {"requests": requests, "per_second": per_second, "bad_status": bad, "broken": 0}


def parse_redis(text, requests):
    row = text.strip().splitlines()[-1].replace('"', "").split(",")
    _, per_second, _, _, p50, _, p99, worst = row[-8:]
    micros = lambda ms: round(float(ms) * 1000)
    latency = {"p50_us": micros(p50), "p99_us": micros(p99), "max_us": micros(worst)}
    return {"requests": requests, "per_second": float(per_second), "bad_status": 0, "broken": 0, **latency}


def parse_oha(text):
    report = json.loads(text)
    codes = report["statusCodeDistribution"]
    requests = sum(codes.values())
    percentiles = report["latencyPercentiles"]
    micros = lambda seconds: round((seconds or 0) * 1e6)
    return {
        "requests": requests,
        "per_second": report["summary"]["requestsPerSec"],
        "p50_us": micros(percentiles["p50"]),
        "p99_us": micros(percentiles["p99"]),
        "p999_us": micros(percentiles["p99.9"]),
        "max_us": micros(report["summary"]["slowest"]),
        "bad_status": sum(count for code, count in codes.items() if not code.startswith("2")),
        "broken": sum(report["errorDistribution"].values()),
    }
