"""The server that is tested, its API, and clients that keep it busy."""

import collections
import hashlib
import http.client
import json
import math
import os
import random
import subprocess
import threading
import time
import uuid

Answer = collections.namedtuple("Answer", "status headers json")


class Server:
    """A server process that ends with its `with` block."""

    def __init__(self, binary, *options):
        self.command = [binary, *options]
        self.port = 0
        # Whether keys outlast it.
        self.keeps = "TOKEN_ORCHESTRATOR_STORE" in os.environ
        # Each has keys of its own, also where all share a store.
        self.prefix = f"to-{uuid.uuid4()}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """On the same port as before, if there was one."""
        listen = ["--listen", f"127.0.0.1:{self.port}"]
        environment = {**os.environ, "TOKEN_ORCHESTRATOR_STORE_PREFIX": self.prefix}
        self.process = subprocess.Popen([*self.command, *listen], env=environment, stderr=subprocess.PIPE, text=True)
        log = []
        for line in self.process.stderr:
            log.append(line)
            if "listening on http://" in line:
                address = line.split("listening on http://")[1].split()[0]
                self.port = int(address.rsplit(":", 1)[1])
                break
        else:
            raise AssertionError("the server did not start: " + "".join(log))
        # A pipe that is not read blocks a server that logs much.
        self.reader = threading.Thread(target=collections.deque, args=(self.process.stderr, 0))
        self.reader.start()

    def stop(self):
        self.process.terminate()
        try:
            assert self.process.wait(30) == 0
        finally:
            self.process.kill()
            self.reader.join()
            self.process.stderr.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def api(self, method, path, body=None, token=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, json.loads(answer.read()))
        finally:
            connection.close()

    def stats(self):
        return self.api("GET", "/stats").json

    def history(self):
        """The samples that the stream begins with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/dashboard/events")
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            while answer.readline().strip() != b"event: history":
                pass
            return json.loads(answer.readline().removeprefix(b"data:"))
        finally:
            connection.close()

    def create(self, count, **options):
        answer = self.api("POST", "/keys", {"count": count}, **options)
        assert answer.status == 201, answer
        return answer.json["keyIds"]

    def lease(self):
        """The id and the ETag."""
        answer = self.api("GET", "/keys")
        assert answer.status == 200, answer
        return answer.json["keyId"], answer.headers["etag"]


def write_tokens(file, pools="*", **tokens):
    """Writes a file of tokens for these pools: role=token."""
    for role, token in tokens.items():
        file.write(f"{role}-of-the-test {role} {hashlib.sha256(token.encode()).hexdigest()} {pools}\n")
    file.flush()


class Load:
    """Clients that create, lease, release, rest, keep alive, delete, and forget to release."""

    def __init__(self, server, clients=8, pause=0.01):
        self.server, self.pause = server, pause
        self.over = threading.Event()
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures

    def run(self, number):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            dice = random.Random(number)
            while not self.over.is_set():
                self.step(connection, dice, number)
            connection.close()
        except (OSError, AssertionError, http.client.HTTPException) as failure:
            self.failures.append(repr(failure))

    def ask(self, connection, method, path, body=None):
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 201, 404), (method, path, answer.status, text)
        return answer.status, text

    def step(self, connection, dice, number):
        if number == 0:
            self.ask(connection, "POST", "/keys", json.dumps({"count": dice.randint(1, 4)}))
            self.over.wait(10 * self.pause)
            return
        status, text = self.ask(connection, "GET", "/keys?wait=500ms")
        if status == 404:
            return
        path = "/keys/" + json.loads(text)["keyId"]
        # The load rises and falls.
        self.over.wait(dice.expovariate(1 / self.pause) * (1 + 0.8 * math.sin(time.time() / 25)))
        kind = dice.random()
        if kind < 0.6:
            self.ask(connection, "PUT", path)
        elif kind < 0.75:
            self.ask(connection, "PUT", path + "?cooldown=2s")
        elif kind < 0.8:
            self.ask(connection, "PUT", path.replace("/keys/", "/keepalive/"))
        elif kind < 0.82:
            self.ask(connection, "DELETE", path)
