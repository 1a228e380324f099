"""A node of redis-server in memory only, and commands to it."""

import socket
import tempfile
import threading

from lib.server import Server, free_port

# The bus of a cluster has a port of its own, so far above the other one.
BUS = 10_000


class Connection:
    """Commands to a node, one at a time, from any thread."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.lock = threading.Lock()

    def close(self):
        self.file.close()
        self.socket.close()

    def ask(self, *words):
        """The answer to a command, which must not be refused."""
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        with self.lock:
            self.socket.sendall(b"*%d\r\n%s" % (len(words), b"".join(parts)))
            return self.read()

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind != b"+":
            raise SystemExit(f"redis-server: {rest.decode() or 'closed the connection'}")
        return rest


def port_with_bus():
    """A free port, with that of the bus free as well."""
    while True:
        port = free_port()
        port -= 20_000 if port > 65535 - BUS else 0
        try:
            for one in (port, port + BUS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", one))
            return port
        except OSError:
            continue


class Node(Server):
    """A node in memory only. Primaries have a processor of their own, and replicas run where there is room."""

    def __init__(self, cores):
        self.folder = tempfile.TemporaryDirectory(prefix="engine-")
        command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", self.folder.name]
        command += ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--shutdown-timeout", "0"]
        command += ["--repl-diskless-sync-delay", "0"]
        super().__init__(command, port=port_with_bus(), shared=cores)
        self.connection = Connection(self.port)

    def __exit__(self, *reason):
        self.connection.close()
        super().__exit__(*reason)
        self.folder.cleanup()

    def ask(self, *words):
        return self.connection.ask(*words)

    def info(self, section):
        """What INFO says, by name."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
