"""The server and the proxies before it, as processes that end with their `with` blocks."""

import glob
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
import urllib.request
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))


def until(what, condition, seconds=30):
    """Waits for something that comes soon, on a busy machine, too."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process that logs to a file."""

    def __init__(self, name, folder, command, environment=None):
        self.log_path = os.path.join(folder, name + ".log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environment or {})})

    def __enter__(self):
        try:
            self.begin()
        except BaseException as failure:
            self.__exit__(type(failure))
            raise
        return self

    def __exit__(self, failure, *_):
        # nginx then ends its workers, too.
        self.process.terminate()
        try:
            ended = self.process.wait(30)
        finally:
            self.process.kill()
        if failure:
            print(f"-- {self.log_path}\n{self.log()[-3000:]}")
        else:
            # HAProxy names the signal.
            assert ended in (0, 143, -15), (self.log_path, ended)

    def log(self):
        with open(self.log_path) as log:
            return log.read()

    def lives(self):
        assert self.process.poll() is None, self.log()
        return True


class Server(Process):
    def __init__(self, binary, folder, *options, certificate=None):
        self.certificate = certificate
        scheme, tls = "http", []
        if certificate:
            scheme, tls = "https", ["--tls-cert", certificate, "--tls-key", certificate.replace("cert.pem", "key.pem")]
        # No key dies, however long the clients take.
        always = ["--listen", "127.0.0.1:0", "--key-ttl", "1h"]
        # Each has keys of its own, also where all share a store.
        environment = {"TOKEN_ORCHESTRATOR_STORE_PREFIX": f"to-{uuid.uuid4()}"}
        super().__init__(f"server-{scheme}", folder, [binary, *always, *tls, *options], environment)
        self.scheme = scheme

    def begin(self):
        until("the server listens", lambda: self.lives() and "listening on" in self.log())
        self.address = re.search(r"listening on https?://(\S+)", self.log())[1]
        self.url = f"{self.scheme}://{self.address}"

    def get(self, path):
        tls = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        with urllib.request.urlopen(self.url + path, timeout=30, context=tls) as answer:
            return answer.read().decode()

    def stats(self):
        return json.loads(self.get("/stats"))

    def requests(self):
        """How many of each kind the server has answered."""
        line = re.compile(r'token_orchestrator_http_requests_total\{method="(.*)",route="(.*)",status="(.*)"\} ([0-9]+)')
        return {f"{method} {route} {status}": int(count) for method, route, status, count in line.findall(self.get("/metrics"))}


class Proxy(Process):
    """Ready when it passes requests on."""

    def __init__(self, *arguments, port):
        super().__init__(*arguments)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def begin(self):
        until("the proxy is ready", lambda: self.lives() and self.ready())

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except ConnectionError:
            return False
        finally:
            connection.close()


def unpacked(tools, program):
    """The path of a program, and where its libraries are."""
    root = os.path.join(tools, "proxies")
    return f"{root}/usr/sbin/{program}", {"LD_LIBRARY_PATH": ":".join(glob.glob(f"{root}/usr/lib/*-linux-gnu*"))}


def configuration(name, server, port, changes):
    """A file of ours with the addresses of this run. `changes` replaces a line each."""
    with open(os.path.join(HERE, name)) as file:
        text = file.read()
    address = f"127.0.0.1:{port}"
    changes = {"127.0.0.1:8080": server.address, "listen 80;": f"listen {address};", "bind :80": f"bind {address}", **changes}
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


class Nginx(Proxy):
    """With our configuration; or `bare`, which is nginx's idea of a proxy: HTTP/1.0, and a connection for each request."""

    def __init__(self, tools, folder, server, bare=False, **changes):
        port = free_port()
        self.home = os.path.join(folder, f"nginx-{port}")
        os.mkdir(self.home)
        program, libraries = unpacked(tools, "nginx")
        if bare:
            site = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {server.url}; }} }}"
        else:
            site = configuration("nginx.conf", server, port, changes)
        places = "".join(
            f"{name}_temp_path {self.home}/{name};" for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        with open(f"{self.home}/nginx.conf", "w") as file:
            # As root it would use an account that may not read this folder.
            file.write("user root;\n" if os.geteuid() == 0 else "")
            file.write(f"daemon off;\nworker_processes 2;\npid {self.home}/pid;\nerror_log stderr notice;\n")
            file.write(f"events {{}}\nhttp {{\naccess_log off;\n{places}\n{site}\n}}\n")
        command = [program, "-p", self.home, "-e", "stderr", "-c", f"{self.home}/nginx.conf"]
        super().__init__(f"nginx-{port}", folder, command, libraries, port=port)

    def complaints(self):
        return [line for line in self.log().splitlines() if not re.search(r"\[(notice|warn)\]", line)]


class Haproxy(Proxy):
    def __init__(self, tools, folder, server, **changes):
        port = free_port()
        program, libraries = unpacked(tools, "haproxy")
        path = os.path.join(folder, f"haproxy-{port}.cfg")
        with open(path, "w") as file:
            file.write(configuration("haproxy.cfg", server, port, changes))
        super().__init__(f"haproxy-{port}", folder, [program, "-db", "-f", path], libraries, port=port)

    def complaints(self):
        # What it says at its start and end begins with its level.
        return [line for line in self.log().splitlines() if not line.startswith("[")]


def closed_connections(address):
    """How many connections to or from this port were closed a short time ago."""
    port = int(address.rsplit(":", 1)[1])
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in list(table)[1:]]
    time_wait = "06"
    return sum(row[3] == time_wait and port in (int(row[1][-4:], 16), int(row[2][-4:], 16)) for row in rows)
