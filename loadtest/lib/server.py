"""A server under load: a process on processors of its choice, and the CPU time that it uses."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from lib import machine

BATCH = 100_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """Runs `command`, in which {port} stands for a free port, until the end of a `with`.

    Its load has a processor of its own, unless both are to share the set `shared`."""

    # Header fields of each request.
    fields = {}
    scheme = "http"
    # Of the paths for the pool that its keys are in.
    prefix = ""
    # Ids of keys that requests may name.
    ids = []

    def __init__(self, command, port=None, shared=None, **options):
        self.port = port or free_port()
        command = [word.replace("{port}", str(self.port)) for word in command]
        cores, self.load_cores = (shared, shared) if shared else machine.cores()
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **machine.pinned(cores), **options
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    raise SystemExit(f"{command[0]} did not start: {self.process.stderr.read().decode()}")
                time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()

    def cpu_seconds(self):
        """CPU time of all its threads and children, from the scheduler, to the nanosecond."""
        pids = [self.process.pid]
        for pid in pids:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            pids += [int(child) for child in children.read_text().split()] if children.exists() else []
        total = 0
        for pid in pids:
            for task in os.listdir(f"/proc/{pid}/task"):
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return total / 1e9

    def resident_bytes(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


class Orchestrator(Server):
    """The project's server, with keys that outlive the test."""

    BINARY = machine.RELEASE / "token-orchestrator"

    def __init__(self, keys=0, *options, shared=None, token=None, certificate=None):
        """With `keys` keys; `options` go to the server, and `token` with each request. With TLS if there is a
        certificate."""
        options = options or ("--key-ttl", "1h")
        if certificate:
            self.scheme = "https"
            options += ("--tls-cert", certificate[0], "--tls-key", certificate[1])
        self.fields = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__([str(self.BINARY), "--listen", "127.0.0.1:{port}", *options], shared=shared)
        self.ids = []
        self.create(keys)

    def create(self, keys):
        """Creates keys and appends their ids to `ids`."""
        make = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        # It is this server, whoever has signed its certificate.
        secure = {"context": ssl._create_unverified_context()} if self.scheme == "https" else {}
        connection = make("127.0.0.1", self.port, timeout=60, **secure)
        end = len(self.ids) + keys
        while len(self.ids) < end:
            count = min(BATCH, end - len(self.ids))
            connection.request("POST", f"{self.prefix}/keys", json.dumps({"count": count}), self.fields)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 201:
                self.process.kill()
                raise SystemExit(f"cannot create keys: {answer.status} {body[:200]}")
            self.ids += json.loads(body)["keyIds"]
        connection.close()
