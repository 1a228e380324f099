"""Cycles by all clients at once, and whether what they counted is what the server counted."""

import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import time

from processes import HERE, closed_connections, until

CYCLE_REQUESTS = 31
CLIENTS = ["httpx", "requests", "aiohttp", "java", "fetch", "undici", "curl"]
# Processes at once; each has four workers.
AT_ONCE = 4


class Job(collections.namedtuple("Job", "client url cycles protocol ca pause", defaults=["HTTP/1.1", None, 0])):
    """One run of a client."""

    def command(self, tools):
        program = {
            "curl": [sys.executable, f"{HERE}/clients/curl.py"],
            # The module is where undici is.
            "fetch": ["node", f"{tools}/node/node.mjs"],
            "undici": ["node", f"{tools}/node/node.mjs"],
            # Nothing is sent twice, where the client would do so without a word.
            "java": ["java", "-XX:+UseSerialGC", "-Djdk.httpclient.redirects.retrylimit=1", "-cp", f"{tools}/java", "Cycles"],
        }.get(self.client, [sys.executable, f"{HERE}/clients/python.py"])
        options = ["--protocol", self.protocol, "--pause", str(self.pause), *(["--ca", self.ca] if self.ca else [])]
        return [*program, self.client, self.url, str(self.cycles), *options]

    def run(self, tools):
        """What the client counted."""
        began = time.monotonic()
        environment = {**os.environ, "NODE_EXTRA_CA_CERTS": self.ca or ""}
        ended = subprocess.run(self.command(tools), capture_output=True, text=True, env=environment, timeout=300)
        assert ended.returncode == 0, f"{self}:\n{ended.stdout[-2000:]}{ended.stderr[-6000:]}"
        counts = collections.Counter(json.loads(ended.stdout))
        sent = sum(count for name, count in counts.items() if " " in name)
        assert sent == self.cycles * CYCLE_REQUESTS, (self, sent)
        encrypted = ", TLS" if self.ca else ""
        name = f"{self.client}, {self.protocol}{encrypted}, {self.url.rsplit(':', 1)[1]}"
        print(f"  {name}: {sent} requests in {time.monotonic() - began:.1f} s", flush=True)
        return counts


def run(tools, servers, jobs):
    """Runs the jobs side by side. Each server must have answered each request once, and have every key."""
    before = {server: (server.requests(), server.stats()["totals"]) for server in servers}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(job.run, tools) for _, job in jobs]
        try:
            # The first failure ends it.
            for future in concurrent.futures.as_completed(running):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        results = [future.result() for future in running]
    for server in servers:
        counts = sum((result for (target, _), result in zip(jobs, results) if target is server), collections.Counter())
        compare(server, counts, *before[server])
    return sum(results, collections.Counter())


def compare(server, counts, requests_before, totals_before):
    closed = closed_connections(server.address)
    sent = {name: count for name, count in counts.items() if " " in name}
    answered = collections.Counter(server.requests())
    answered.subtract(requests_before)
    # Ours, and those of HAProxy.
    for name in ["GET /metrics 200", "GET /readyz 200"]:
        del answered[name]
    answered["GET /stats 200"] -= 1
    assert +answered == sent, f"the server answered {+answered}, and the clients sent {sent}"
    # The last cool-downs are soon over.
    until("all keys are free", lambda: server.stats()["cooling"] == 0)
    stats = server.stats()
    totals = {name: count - totals_before[name] for name, count in stats["totals"].items()}
    assert stats["blocked"] == 0 and stats["free"] == stats["keys"] and stats["waiting"] == 0, stats
    assert totals == {
        "created": counts["created"],
        "leased": counts["leased"],
        "released": counts["released"],
        "deleted": counts["deleted"],
        "leasesLost": counts["deleted"],
        "staleRefusals": counts["stale"],
        "leaseTimeouts": 0,
        "expired": 0,
    }, (totals, counts)
    # nginx begins a connection after 1,000 requests, each client has a few, and a curl is one.
    total = sum(sent.values())
    assert closed < 500 + total / 50, f"{closed} connections for {total} requests"
    print(f"  {server.url}: {total} requests, each answered once; {stats['keys']} keys, none lost; {closed} connections closed")
