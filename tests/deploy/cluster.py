"""The compose file and the Kubernetes manifests: read by the rules of their formats, and run.

What the files run is run here, without containers: each node of Redis with its command and configuration, at an address of the
loopback network that stands for its own, the script that makes the cluster, the servers, and the proxy of the compose file.
"""

import contextlib
import http.client
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compose_spec
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = ROOT / "deploy/compose"
KUBERNETES = ROOT / "deploy/kubernetes"
CLUSTER = ROOT / "deploy/cluster"
# The oldest and the newest Kubernetes whose rules they must meet.
VERSIONS = ("1.30", "1.34")
TIMEOUT_S = 60


class Plain(yaml.SafeDumper):
    """Writes what an alias stands for."""

    def ignore_aliases(self, data):
        return True


def until(what, condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it takes too long until {what}"
        time.sleep(0.1)
    return found


class Running:
    """Processes in a folder of their own, at addresses of a loopback network of their own."""

    def __init__(self, program, network):
        self.program, self.folder = program, Path(tempfile.mkdtemp(prefix="deploy-"))
        # Other tests use 127.0.0.1.
        self.network = network or f"127.{random.randrange(1, 250)}.{random.randrange(250)}"
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            # With what it has started itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        subprocess.run(["rm", "-rf", self.folder], check=True)

    def start(self, name, command, **environment):
        """Starts a command, in a folder of its own; its first word may be the server."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        command = [str(self.program) if word == "token-orchestrator" else word for word in command]
        with (folder / "log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | environment,
                start_new_session=True,
            )

    def log(self, name):
        return (self.folder / name / "log").read_text(errors="replace")

    def ends(self, name):
        try:
            status = self.processes[name].wait(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} does not end:\n{self.log(name)}") from None
        del self.processes[name]
        assert status == 0, f"{name} ends with {status}:\n{self.log(name)}"

    def runs(self):
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} has ended:\n{self.log(name)}"


def listening_at(address):
    """The options of a node that has this address as a container would have it."""
    return ["--bind", address, "--bind-source-addr", address, "--port", "6379"]


def ask(address, method, path, **headers):
    """The status and the body of an answer; 0 if there is none."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def check_compose(program, haproxy):
    """Runs what the compose file says. HAProxy is in a folder, unpacked."""
    text = (COMPOSE / "compose.yaml").read_text()
    file = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    compose_spec.PyCompose.from_yaml(yaml.dump(file, Dumper=Plain)).validate()
    services = file["services"]
    networks = {name: service["networks"]["cluster"] for name, service in services.items() if name not in ("form", "proxy")}
    addresses = {name: network["ipv4_address"] for name, network in networks.items()}
    (subnet,) = [config["subnet"] for config in file["networks"]["cluster"]["ipam"]["config"]]
    network = subnet.removesuffix(".0/24")
    assert all(address.startswith(f"{network}.") for address in addresses.values())
    for name, service in services.items():
        for volume in service["volumes"]:
            if isinstance(volume, str) and volume.startswith("."):
                assert (COMPOSE / volume.split(":")[0]).exists(), f"{name}: {volume} is missing"

    with Running(program, None) as running:
        def here(words):
            words = [str(word).replace("/etc/store", str(CLUSTER)).replace(network, running.network) for word in words]
            return [word.replace("0.0.0.0", own) for word in words]

        for name, service in services.items():
            own = addresses.get(name, f"{network}.31").replace(network, running.network)
            if name.startswith("node-"):
                assert f"{name}:/data" in service["volumes"] and name in file["volumes"]
                running.start(name, [*here(service["command"]), *listening_at(own)])
        form = services["form"]
        running.start("form", here(form["command"]), NODES=here([form["environment"]["NODES"]])[0])
        running.ends("form")
        servers = [name for name in services if name.startswith("server-")]
        for name in servers:
            own = addresses[name].replace(network, running.network)
            running.start(name, here(services[name]["command"]))
            until(f"{name} is ready", lambda: ask(f"{own}:8080", "GET", "/readyz")[0] == 200 or running.runs())
        configuration = (COMPOSE / "haproxy.cfg").read_text().replace(network, running.network)
        proxy = f"{running.network}.31:8080"
        (running.folder / "haproxy.cfg").write_text(configuration.replace("bind :8080", f"bind {proxy}"))
        library = f"{haproxy}/usr/lib/{os.uname().machine}-linux-gnu"
        running.start("proxy", [f"{haproxy}/usr/sbin/haproxy", "-f", f"{running.folder}/haproxy.cfg"], LD_LIBRARY_PATH=library)

        def sent(method, path, wanted):
            return lambda: ask(proxy, method, path)[0] == wanted

        until("a key is created", sent("POST", "/keys", 201))
        for _ in range(50):
            ask(proxy, "POST", "/keys")
        until("a key is leased", sent("POST", "/leases", 201))
        # A primary is gone: /readyz says so, and keys of the others are leased.
        running.processes.pop("node-1").send_signal(signal.SIGKILL)
        until("it is noticed", sent("GET", "/readyz", 503))
        # By then the proxy has asked both servers more than twice, which is what `fall` says.
        time.sleep(3)
        until("keys of other nodes are leased", sent("POST", "/leases", 201))
        running.start("node-1", [*here(services["node-1"]["command"]), *listening_at(f"{running.network}.11")])
        at = [f"{addresses[name]}:8080".replace(network, running.network) for name in servers]
        until("it is back", lambda: all(ask(one, "GET", "/readyz")[0] == 200 for one in at))
        # A server stops while another one serves: nobody notices.
        running.processes[servers[0]].send_signal(signal.SIGTERM)
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            status, answer = ask(proxy, "GET", "/pools")
            assert status == 200, f"{status} {answer} while a server stops\n{running.log('proxy')}"
            time.sleep(0.02)
        running.ends(servers[0])
        running.runs()
        grace = services[servers[0]]["stop_grace_period"]
        check_grace(services[servers[0]]["command"], int(grace.removesuffix("s")))


def check_grace(options, grace_s):
    """Whether there is time for the options of a stop."""
    given = dict(option.removeprefix("--").split("=", 1) for option in options if "=" in option)
    stop_s = sum(int(given.get(name, "10s").removesuffix("s")) for name in ("drain-delay", "drain-timeout"))
    assert grace_s > stop_s, f"{grace_s} s are not enough for {stop_s} s"


def check_kubernetes(program):
    """Runs what the manifests say."""
    store, servers = ([*yaml.safe_load_all((KUBERNETES / name).read_text())] for name in ("store.yaml", "servers.yaml"))
    for document in store + servers:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    named = {(one["kind"], one["metadata"]["name"]): one for one in store + servers}
    assert len(named) == len(store + servers)
    data = named["ConfigMap", "store"]["data"]
    for name in ("node.conf", "form.sh"):
        assert data[name] == (CLUSTER / name).read_text(), f"{name} differs from that of deploy/cluster"
    sets = [one for one in store + servers if one["kind"] in ("Deployment", "StatefulSet", "Job")]
    for one in sets:
        check_pods(one, named)
    for one in store + servers:
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            check_selector(one, sets)

    with Running(program, None) as running:
        nodes = named["StatefulSet", "store"]["spec"]
        users = named["Secret", "store-users"]["stringData"]
        (running.folder / "users.conf").write_text(users["users.conf"])
        binaries = running.folder / "bin"
        binaries.mkdir()
        # The names of the nodes are known to nobody here.
        (binaries / "getent").write_text(f"#!/bin/sh\necho {running.network}.$((10 + ${{2##*-}}))\n")
        (binaries / "getent").chmod(0o755)
        path = f"{binaries}:{os.environ['PATH']}"

        def here(word):
            word = word.replace("/etc/store-users", str(running.folder)).replace("/etc/store/", f"{CLUSTER}/")
            return re.sub(r"store-node-(\d)", lambda match: f"{running.network}.{10 + int(match[1])}", word)

        container = nodes["template"]["spec"]["containers"][0]
        for number in range(nodes["replicas"]):
            assert ("Service", f"store-node-{number}") in named
            script = container["args"][0].replace("/etc/store-users", str(running.folder)).replace("/etc/store", str(CLUSTER))
            script = script.replace("/data", ".") + f" --bind {running.network}.{10 + number}"
            running.start(f"node-{number}", [*container["command"], script], PATH=path, HOSTNAME=f"store-{number}")
        form = named["Job", "store-form"]["spec"]["template"]["spec"]["containers"][0]
        environment = {one["name"]: one.get("value") for one in form["env"]}
        environment |= {"NODES": here(environment["NODES"]), "REDISCLI_AUTH": users["admin-password"]}
        command = [here(word) for word in form["command"]]
        for name in ("form", "form-again"):
            running.start(name, command, **environment)
            running.ends(name)
        assert "a cluster already" in running.log("form-again")

        deployment = named["Deployment", "token-orchestrator"]["spec"]["template"]["spec"]
        container, secret = deployment["containers"][0], named["Secret", "token-orchestrator"]["stringData"]
        made = subprocess.run([program, "token", "new", "--role", "admin", "--name", "test"], check=True, capture_output=True, text=True)
        token, line = made.stdout.splitlines()
        (running.folder / "store-password").write_text(secret["store-password"])
        mounted = str(running.folder)
        for name, tokens, wanted in (("server", secret["tokens"] + line, 201), ("closed", secret["tokens"], 401)):
            address = f"{running.network}.{31 if wanted == 201 else 32}:8080"
            (running.folder / "tokens").write_text(tokens)
            options = [here(word).replace("/etc/token-orchestrator", mounted).replace("0.0.0.0:8080", address) for word in container["args"]]
            running.start(name, [*container["command"], *options])
            until(f"{name} is ready", lambda: ask(address, "GET", "/readyz")[0] == 200 or running.runs())
            status, answer = ask(address, "POST", "/keys", Authorization=f"Bearer {token}")
            assert status == wanted, f"{status} {answer}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert ask(address, "GET", container[probe]["httpGet"]["path"])[0] == 200
        assert json.loads(ask(address, "GET", "/healthz")[1]) == {"status": "alive"}
        check_grace(container["args"], deployment["terminationGracePeriodSeconds"])
        running.runs()


def check_pods(one, named):
    """What the pods of a set must be, whatever they run."""
    name, pod = one["metadata"]["name"], one["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False, name
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"], name
    assert security["capabilities"] == {"drop": ["ALL"]} and container["resources"]["limits"]["memory"], name
    ports = {port["name"] for port in container.get("ports", [])}
    for probe in [value for key, value in container.items() if key.endswith("Probe")]:
        (target,) = [probe[kind] for kind in ("httpGet", "tcpSocket") if kind in probe]
        assert target["port"] in ports, f"{name}: no port {target['port']}"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claimed = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
    for mount in container["volumeMounts"]:
        assert mount["name"] in volumes or mount["name"] in claimed, f"{name}: no volume {mount['name']}"
    for volume in volumes.values():
        kind, source = ("ConfigMap", volume["configMap"]["name"]) if "configMap" in volume else ("Secret", volume["secret"]["secretName"])
        assert (kind, source) in named, f"{name}: no {kind} {source}"
        for item in volume.get("secret", {}).get("items", []):
            assert item["key"] in named[kind, source]["stringData"], f"{name}: no {item['key']}"
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            key = variable["valueFrom"]["secretKeyRef"]
            assert key["key"] in named["Secret", key["name"]]["stringData"], f"{name}: no {key}"


def check_selector(one, sets):
    """Whether a Service or a budget selects pods of some set, by ports that they have."""
    selector = dict(one["spec"]["selector"].get("matchLabels", one["spec"]["selector"]))
    pod = selector.pop("statefulset.kubernetes.io/pod-name", None)
    chosen = [that for that in sets if selector.items() <= that["spec"]["template"]["metadata"]["labels"].items()]
    name = one["metadata"]["name"]
    assert len(chosen) == 1, f"{name} selects {len(chosen)} sets"
    (that,) = chosen
    if pod:
        base, number = pod.rsplit("-", 1)
        assert base == that["metadata"]["name"] and int(number) < that["spec"]["replicas"], f"{name}: no pod {pod}"
    ports = that["spec"]["template"]["spec"]["containers"][0].get("ports", [])
    known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
    for port in one["spec"].get("ports", []):
        assert port.get("targetPort", port["port"]) in known, f"{name}: no port {port}"


def main():
    what, *paths = sys.argv[1:]
    # What was started ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    {"compose": check_compose, "kubernetes": check_kubernetes}[what](*(Path(path).resolve() for path in paths))
    print(f"{what}: what it says was run")


if __name__ == "__main__":
    main()
