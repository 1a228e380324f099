"""Servers to compare with."""

import subprocess
import tempfile
from pathlib import Path

from lib import machine
from lib.server import Server, free_port

BODY = '{"keyId":"936da01f-9abd-4d9d-80c7-02af85c822a8"}'

NGINX = """
daemon off; worker_processes {workers}; pid {dir}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; tcp_nodelay on;
    client_body_temp_path {dir}/1; proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3;
    uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5;
    server {{
        listen 127.0.0.1:{port} backlog=1024 reuseport{protocols};
        {tls}
        default_type application/json;
        add_header cache-control no-store;
        location / {{ return 200 '{body}'; }}
    }}
}}
"""

# What GET /keys does: take a random free key, and note whose lease ends when.
LEASE = """
local key = redis.call('SPOP', 'free')
if not key then return false end
redis.call('ZADD', 'leases', ARGV[1], key)
redis.call('HSET', 'since', key, ARGV[1])
return key
"""

FILL = """
for i = ARGV[1], ARGV[2] do
  redis.call('SADD', 'free', string.format('%08x-9abd-4d9d-80c7-02af85c822a8', i))
end
"""


def floor():
    binary = Path(tempfile.gettempdir()) / "token-orchestrator-floor"
    source = machine.ROOT / "loadtest" / "floor.c"
    subprocess.run(["gcc", "-O2", "-o", str(binary), str(source)], check=True)
    return Server([str(binary), "{port}"])


def bare_hyper():
    binary = machine.RELEASE / "examples" / "bare_hyper"
    return Server([str(binary), "127.0.0.1:{port}"])


class Nginx(Server):
    def __init__(self, shared=None, certificate=None, http2=False):
        """With a worker on each of the processors `shared`, or with one; with TLS if there is a certificate."""
        self.scheme = "https" if certificate else "http"
        protocols = (" ssl" if certificate else "") + (" http2" if http2 else "")
        tls = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};" if certificate else ""
        self.files = tempfile.TemporaryDirectory()
        port = free_port()
        config = Path(self.files.name) / "nginx.conf"
        text = NGINX.format(
            workers=len(shared) if shared else 1, dir=self.files.name, port=port, body=BODY, protocols=protocols, tls=tls
        )
        config.write_text(text)
        super().__init__([machine.find("nginx"), "-c", str(config), "-p", self.files.name], port=port, shared=shared)


class Redis(Server):
    def __init__(self, keys, appendonly=None):
        """In memory only, or with a folder for its log and when it is to be flushed. The log is not rewritten meanwhile."""
        command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly"]
        folder, fsync = appendonly or (tempfile.gettempdir(), "no")
        command += ["yes", "--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0"] if appendonly else ["no"]
        super().__init__(command, cwd=folder)
        for first in range(0, keys, 100_000):
            self.cli("EVAL", FILL, "0", str(first), str(min(first + 100_000, keys) - 1))
        self.lease = self.cli("SCRIPT", "LOAD", LEASE)

    def cli(self, *words):
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Beanstalkd(Server):
    def __init__(self, folder):
        """With a log that is flushed for each request that it notes: `-f0`."""
        super().__init__([machine.find("beanstalkd"), "-l", "127.0.0.1", "-p", "{port}", "-b", folder, "-f0"])
