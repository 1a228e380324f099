"""A reader of a page: a shell that runs its commands one after another, and a server that it starts.

The shell writes to a terminal, so that programs print what a reader sees. The page's ports stand for free ones.
"""

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import time
from pathlib import Path

import compare

COMMAND_TIMEOUT_S = 30
START_TIMEOUT_S = 10
SERVES = re.compile(r"(?:cargo run --release(?: --(?= ))?|token-orchestrator(?: serve)?)((?: --[^ ].*)?)$", re.DOTALL)
MARK = "\x1eend of the command: "


class Failed(Exception):
    """A command did not do what the page says."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def free_port_of_cluster():
    """A port whose number leaves room for that of the bus of a cluster, 10,000 above it, which is free as well."""
    while True:
        port = int(free_port())
        # Below those that are given to connections, and far below the highest one.
        port = port - 20000 if port > 45000 else port
        try:
            for number in (port, port + 10000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return str(port)


class Session:
    """To be used in a `with`: at its end shell, server and files go."""

    def __init__(self, program, root):
        self.folder = Path(tempfile.mkdtemp(prefix="docs-"))
        self.home = self.folder / "home"
        self.home.mkdir()
        # A reader is in the folder of the project, as far as its examples and files to be copied go.
        for name in ("examples", "deploy"):
            (self.home / name).symlink_to(root / name)
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "token-orchestrator").symlink_to(program)
        self.ports = {port: free_port() for port in ("8080", "8081", "6379", "9000", "9090")}
        self.ports |= {str(port): free_port_of_cluster() for port in range(7001, 7007)}
        self.environment = {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "TOKEN_ORCHESTRATOR_LISTEN": f"127.0.0.1:{self.ports['8080']}",
            "TOKEN_ORCHESTRATOR_SERVER": f"http://127.0.0.1:{self.ports['8080']}",
        }
        self.server = None
        self.terminal, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        self.shell = subprocess.Popen(
            ["sh"], stdin=subprocess.PIPE, stdout=slave, stderr=slave, cwd=self.home, env=self.environment,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # With all that it has left running, where a page ends early.
        os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        self.shell.stdin.close()
        os.close(self.terminal)
        self.stop_server()
        shutil.rmtree(self.folder)

    def with_ports(self, text, is_back=False):
        for written, port in self.ports.items():
            old, new = (port, written) if is_back else (written, port)
            text = re.sub(rf"\b{old}\b", new, text)
        return text

    def run(self, command):
        """Runs a command, or starts the server that it starts; answers with its output.

        A command must succeed.
        """
        serves = SERVES.match(command)
        if serves:
            self.start_server(serves[1])
            return ""
        script = f"{{\n{self.with_ports(command)}\n}} </dev/null\nprintf '{MARK}%s.' $?\n"
        self.shell.stdin.write(script.encode())
        self.shell.stdin.flush()
        output, status = self.read()
        output = self.with_ports(compare.plain(output), is_back=True)
        if status != "0":
            raise Failed(f"exit status {status} of: {command}\n{output}")
        return output

    def read(self):
        """What comes from the terminal until the command has ended, and its status."""
        output, deadline = b"", time.monotonic() + COMMAND_TIMEOUT_S
        while True:
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Failed(f"no end after {COMMAND_TIMEOUT_S} s; output so far:\n{output.decode()}")
            try:
                output += os.read(self.terminal, 65536)
            except OSError:
                raise Failed(f"the shell has ended; its output:\n{output.decode()}") from None
            text, is_there, status = output.decode(errors="replace").partition(MARK)
            if is_there and status.endswith("."):
                return text, status.removesuffix(".")

    def start_server(self, options):
        """Starts the program as a page says, in place of the server that runs."""
        self.stop_server()
        log = self.folder / "server.log"
        command = self.with_ports(f"exec token-orchestrator{options}")
        with log.open("wb") as stream:
            self.server = subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.DEVNULL, stderr=stream, cwd=self.home, env=self.environment
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while "listening on" not in (text := log.read_text()):
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the server does not start: token-orchestrator{options}\n{text}")
            time.sleep(0.02)

    def stop_server(self):
        if self.server:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(timeout=START_TIMEOUT_S)
            self.server = None
