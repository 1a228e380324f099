"""A server with the real page, and a stream of events that a test writes."""

import http.server
import json
import queue
import threading
import urllib.request


class Feed(http.server.ThreadingHTTPServer):
    """What is put into `self.stream` is sent as it is to every page that follows; `None` ends the stream."""

    daemon_threads = True

    def __init__(self, origin):
        super().__init__(("127.0.0.1", 0), Handler)
        self.stream = queue.Queue()
        # The page with its true headers: the policy above all.
        with urllib.request.urlopen(origin.url + "/dashboard") as answer:
            self.page = answer.read()
            self.headers = [(name, value) for name, value in answer.getheaders()
                            if name.lower() not in ("date", "content-length", "connection", "server", "transfer-encoding")]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stream.put(None)
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def send(self, event, data):
        self.stream.put(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        if self.path == "/dashboard":
            for name, value in self.server.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(self.server.page)
            return
        if self.path.startswith("/pools?"):
            self.end_headers()
            self.wfile.write(b'{"pools":[{"pool":"default"}],"cursor":null}')
            return
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            while (chunk := self.server.stream.get()) is not None:
                self.wfile.write(chunk)
                self.wfile.flush()
        except OSError:
            pass


def sample(at, **changes):
    """A sample in which all numbers differ, from its time on."""
    n = at // 1000 % 100_000
    totals = {name: n * factor for factor, name in enumerate(
        ["created", "leased", "released", "leaseTimeouts", "leasesLost", "expired", "deleted", "staleRefusals"], 1)}
    stats = {"keys": n + 30, "free": n, "blocked": 20, "cooling": 10, "waiting": 3, "lifeEntries": n + 30,
             "blockEntries": 31, "staleHints": 4, "totals": totals}
    return {"at": at, "stats": stats, "sweepLagMs": 2, "connections": 7, "requests": n * 50, "residentBytes": 5 << 20,
            "latencyUs": {"p50": 12.0, "p90": 50.0, "p99": 1500.0, "p999": 20000.0}} | changes
