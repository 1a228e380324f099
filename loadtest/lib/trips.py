"""How often the engine is called for a request that comes alone."""

import collections
import http.client
import json
import statistics
import time
import uuid

AIM = 2
HEAD = ["request", "requests", "calls, median", "mean", "most", "p50 µs"]
# Free keys beside those that are created here, many for each shard.
KEYS = 10_000
# A server that has heard nothing of its shards for longer asks all of them.
SILENCE_S = 1.1


class Client:
    """One connection; each request ends before the next one begins."""

    def __init__(self, cluster, server):
        self.cluster = cluster
        self.http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.seen = {}

    def ask(self, name, method, path, fields=None):
        """The answer, which must not be a refusal. Notes how many calls the request has made."""
        before, began = self.cluster.calls(), time.perf_counter()
        self.http.request(method, path, headers=fields or {})
        answer = self.http.getresponse()
        body = answer.read()
        elapsed = time.perf_counter() - began
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {body[:200]}")
        self.seen.setdefault(name, []).append((self.cluster.calls() - before, elapsed * 1e6))
        return json.loads(body), answer.headers

    def cycle(self):
        """Requests for a key that is created, and for those that are leased."""
        created, _ = self.ask("POST /keys", "POST", "/keys")
        path = f"/keys/{created['keyId']}"
        self.ask("GET /keys/:id", "GET", path)
        self.ask("PUT /keepalive/:id", "PUT", f"/keepalive/{created['keyId']}")
        leased, head = self.ask("GET /keys", "GET", "/keys")
        fence = {"If-Match": head["etag"]}
        self.ask("PUT /keys/:id/lease, fenced", "PUT", f"/keys/{leased['keyId']}/lease", fence)
        self.ask("PUT /keys/:id, fenced", "PUT", f"/keys/{leased['keyId']}", fence)
        leased, head = self.ask("POST /leases, Idempotency-Key", "POST", "/leases", {"Idempotency-Key": str(uuid.uuid4())})
        self.ask("PUT /keys/:id, fenced, of such a lease", "PUT", f"/keys/{leased['keyId']}", {"If-Match": head["etag"]})
        self.ask("DELETE /keys/:id", "DELETE", path)

    def after_silence(self):
        time.sleep(SILENCE_S)
        leased, _ = self.ask("GET /keys, the first in a second", "GET", "/keys")
        self.ask("PUT /keys/:id", "PUT", f"/keys/{leased['keyId']}")


def measure(options, cluster, server):
    """The rows of the table, and everything that was measured."""
    server.create(KEYS)
    client = Client(cluster, server)
    for _ in range(options.rounds):
        client.after_silence()
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            client.cycle()
    client.http.close()
    rows, raw = [], {}
    for name, seen in client.seen.items():
        calls, micros = zip(*seen)
        raw[name] = {"requests by calls": collections.Counter(calls), "p50_us": statistics.median(micros)}
        figures = [f"{statistics.median(calls):.0f}", f"{statistics.mean(calls):.2f}", str(max(calls))]
        rows.append([name, f"{len(seen):,}", *figures, f"{statistics.median(micros):.0f}"])
        print(f"{name} alone: {rows[-1][2]} calls of the engine, {rows[-1][3]} in the mean", flush=True)
    return rows, raw
