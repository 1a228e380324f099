"""A small provider of a service, to try the tutorial with: docs/provider-keys.md.

Each API key may make 5 calls a second; past that it gets 429 with Retry-After, and none of its calls may come before that time.
Two of the 20 keys are revoked: they get 401. `GET /report` says what no client should have done.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

KEYS = {f"sk-{n:02}" for n in range(1, 21)}
REVOKED = {"sk-13", "sk-17"}
CALLS_A_SECOND = 5
RETRY_AFTER_S = 1
WORK_S = 0.01

lock = Lock()
calls = {key: [] for key in KEYS}
busy = set()
banned_until = {}
report = {"answered": 0, "rateLimited": False, "keysUsedTwiceAtOnce": 0, "keysUsedWhileTheyCool": 0}


def begin(key):
    """The status of a call that begins now."""
    now = time.monotonic()
    if key not in KEYS or key in REVOKED:
        return 401
    if key in busy:
        report["keysUsedTwiceAtOnce"] += 1
    if now < banned_until.get(key, 0):
        report["keysUsedWhileTheyCool"] += 1
    calls[key] = [at for at in calls[key] if now - at < 1]
    if len(calls[key]) >= CALLS_A_SECOND:
        report["rateLimited"] = True
        banned_until[key] = now + RETRY_AFTER_S
        return 429
    calls[key].append(now)
    busy.add(key)
    return 200


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/report":
            with lock:
                return self.answer(200, report)
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with lock:
            status = begin(key)
        if status == 200:
            time.sleep(WORK_S)
            with lock:
                busy.discard(key)
                report["answered"] += 1
        self.answer(status, {})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
