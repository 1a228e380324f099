"""Real clients and real proxies against the server. See `run`."""

import argparse
import concurrent.futures
import contextlib
import shutil
import subprocess
import tempfile
import time

import checks
import load
from processes import HERE, Haproxy, Nginx, Server


class Bench:
    """What the parts need: the program, the tools, a folder, a certificate."""

    def __init__(self, options, folder):
        self.binary, self.tools, self.requests = options.binary, options.tools, options.requests
        self.folder = folder
        self.clients = [client for client in load.CLIENTS if client != "java" or not options.no_java]
        shutil.copy(f"{HERE}/clients/node.mjs", f"{self.tools}/node/")
        if not options.no_java:
            subprocess.run(["javac", "-d", f"{self.tools}/java", f"{HERE}/clients/Cycles.java"], check=True)
        # Each client trusts this one certificate, which is no authority.
        self.certificate = f"{folder}/cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            + ["-addext", "basicConstraints=critical,CA:FALSE"]
            + ["-keyout", f"{folder}/key.pem", "-out", self.certificate],
            check=True,
            capture_output=True,
        )

    def server(self, *options, **more):
        # A folder each, for servers whose logs have the same name.
        return Server(self.binary, tempfile.mkdtemp(dir=self.folder), *options, **more)

    def nginx(self, server, **changes):
        return Nginx(self.tools, self.folder, server, **changes)

    def haproxy(self, server, **changes):
        return Haproxy(self.tools, self.folder, server, **changes)

    def cycles(self, requests):
        return -(-requests // load.CYCLE_REQUESTS)

    @contextlib.contextmanager
    def doors(self, *options):
        """A server, and the ways to it."""
        with self.server(*options) as server, self.nginx(server) as nginx, self.haproxy(server) as haproxy:
            yield server, {"direct": server, "nginx": nginx, "HAProxy": haproxy}

    def knows(self, option):
        text = subprocess.run([self.binary, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        return option in text


def run(bench, name):
    began = time.monotonic()
    checks.PARTS[name](bench)
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("tools")
    parser.add_argument("--requests", type=int, default=10_000, help="of each client through each proxy")
    parser.add_argument("--no-java", action="store_true")
    parser.add_argument("parts", nargs="*", metavar="PART", help=" or ".join(checks.PARTS))
    options = parser.parse_intermixed_args()
    if unknown := set(options.parts) - set(checks.PARTS):
        parser.error(f"unknown parts: {', '.join(unknown)}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, folder)
        # The load beside all other parts, which mostly wait.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = [pool.submit(run, bench, name) for name in options.parts or checks.PARTS]
            try:
                for part in concurrent.futures.as_completed(running):
                    part.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    print(f"all clients and proxies passed in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
