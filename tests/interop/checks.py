"""What is checked, part by part."""

import concurrent.futures
import http.client
import json
import socket
import subprocess
import urllib.parse
import urllib.request

import load
from load import Job
from processes import until

# Changes HAProxy's configuration.
HTTP2 = {" check ": " proto h2 check "}


def check_load(bench):
    """Every client through every door, all on one pool."""
    with bench.doors() as (server, doors):
        jobs = []
        for client in bench.clients:
            for name, door in doors.items():
                # Fewer without a proxy: what the server itself may do wrong, it does there, too.
                requests = bench.requests // 5 if name == "direct" else bench.requests
                jobs.append((server, Job(client, door.url, bench.cycles(requests))))
        load.run(bench.tools, [server], jobs)
        for name in ["nginx", "HAProxy"]:
            assert not doors[name].complaints(), doors[name].complaints()


def check_protocols(bench):
    """HTTP/2 with prior knowledge, both protocols over TLS, HTTP/2 from HAProxy, and HTTP/1.0 from an nginx that was told
    nothing."""
    cycles = bench.cycles(min(bench.requests, 1_000))
    tls = {"ca": bench.certificate}
    second = {"protocol": "HTTP/2"}
    trusting = f"ssl alpn h2 check-alpn h2 ca-file {bench.certificate} verifyhost localhost"
    with (
        bench.server() as plain,
        bench.server(certificate=bench.certificate) as safe,
        bench.haproxy(plain, **HTTP2) as second_door,
        bench.haproxy(safe, **{" check ": f" {trusting} check "}) as safe_door,
        bench.nginx(plain, bare=True) as bare,
    ):
        # curl 7.88 has to connect for each request: it cannot use such a connection twice, whatever the server.
        jobs = [(plain, Job("httpx", plain.url, cycles, **second)), (plain, Job("curl", plain.url, 10, **second))]
        # Python's `requests` and `aiohttp`, and Node's `fetch`, know HTTP/1.1 only.
        jobs += [(safe, Job(client, safe.url, cycles, **tls)) for client in bench.clients]
        able = [client for client in bench.clients if client in ["httpx", "undici", "java", "curl"]]
        jobs += [(safe, Job(client, safe.url, cycles, **second, **tls)) for client in able]
        # Of four connections each, HAProxy makes streams.
        for client in ["aiohttp", "undici"]:
            jobs += [(plain, Job(client, second_door.url, cycles)), (safe, Job(client, safe_door.url, cycles))]
        load.run(bench.tools, [plain, safe], jobs)
        for door in [second_door, safe_door]:
            assert not door.complaints(), door.complaints()
        # A connection for each request.
        before = plain.stats()["totals"]["leased"]
        Job("requests", bare.url, 4).run(bench.tools)
        assert plain.stats()["totals"]["leased"] > before and plain.stats()["blocked"] == 0
        assert not bare.complaints(), bare.complaints()


def send(url, method, path, body=None, **headers):
    """Status, headers and JSON of an answer."""
    address = urllib.parse.urlsplit(url).netloc
    connection = http.client.HTTPConnection(address, timeout=40)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, json.loads(text)


def check_waiting(bench):
    """A client that waits gets the key as soon as it is released; and one that hangs up leaves the queue."""
    with bench.doors() as (server, doors), concurrent.futures.ThreadPoolExecutor() as pool:
        key = send(server.url, "POST", "/keys")[2]["keyId"]
        with bench.nginx(server, bare=True) as bare, bench.haproxy(server, **HTTP2) as second:
            for name, door in {**doors, "nginx, bare": bare, "HAProxy, HTTP/2": second}.items():
                assert send(door.url, "GET", "/keys")[0] == 200
                # Longer than the client has patience: only a release answers it.
                waiter = pool.submit(send, door.url, "GET", "/keys?wait=60s")
                until(f"{name}: the request waits", lambda: server.stats()["waiting"] == 1)
                assert send(door.url, "PUT", f"/keys/{key}")[0] == 200
                status, headers, answer = waiter.result()
                assert (status, answer) == (200, {"keyId": key}) and headers["etag"], (name, status, answer)

                # It is leased, so this one waits as well, and gives up.
                address = urllib.parse.urlsplit(door.url)
                leaver = socket.create_connection((address.hostname, address.port))
                leaver.sendall(b"GET /keys?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n")
                until(f"{name}: the request waits", lambda: server.stats()["waiting"] == 1)
                leaver.close()
                until(f"{name}: the queue is empty", lambda: server.stats()["waiting"] == 0)
                assert send(door.url, "PUT", f"/keys/{key}")[0] == 200
                stats = server.stats()
                assert (stats["free"], stats["blocked"]) == (1, 0), (name, stats)

                # A wait that is over: the answer is the server's, no proxy's.
                assert send(door.url, "GET", "/keys")[0] == 200
                status, headers, answer = send(door.url, "GET", "/keys?wait=100ms")
                assert (status, answer) == (404, {}) and headers["retry-after"], (name, status, answer)
                assert send(door.url, "PUT", f"/keys/{key}")[0] == 200
                print(f"  {name}: an answer when a key is released; a client that hangs up leaves the queue")


def check_events(bench):
    """The dashboard's events arrive one by one while their answer goes on, and its requests are not foreign."""
    with bench.doors() as (server, doors), bench.nginx(server, bare=True) as bare:
        for name, door in {**doors, "nginx, bare": bare}.items():
            with urllib.request.urlopen(door.url + "/dashboard/events", timeout=20) as answer:
                assert answer.headers["content-type"] == "text/event-stream", answer.headers
                # One comes each second and the answer has no end, so a proxy that collects them shows none of them.
                events = []
                while len(events) < 3:
                    line = answer.readline()
                    assert line, f"{name}: the events ended"
                    if line.startswith(b"data:"):
                        events.append(json.loads(line.removeprefix(b"data:")))
            until(f"{name}: the viewer is gone", lambda: "dashboard_viewers 0" in server.get("/metrics"))
            if name != "nginx, bare":
                # As a browser does for the page that this address served.
                status, _, _ = send(door.url, "POST", "/keys", {}, Origin=door.url, Content_Type="application/json")
                assert status == 201, (name, status)
            status, _, answer = send(door.url, "POST", "/keys", {}, Origin="http://elsewhere.example")
            assert status == 403, (name, answer)
            print(f"  {name}: {len(events)} events while the answer goes on")


def check_bodies(bench):
    """Batches of 20,000 keys, by curl, which asks with `Expect: 100-continue` before it sends so much."""
    with bench.doors() as (server, doors):
        for name, door in doors.items():
            created = curl(door.url, "/keys", "POST", json.dumps({"count": 20_000}), 201)["keyIds"]
            leases = curl(door.url, "/keys?count=20000", "GET", None, 200)["keys"]
            ids = [lease["keyId"] for lease in leases]
            assert len(set(created)) == len(set(ids)) == 20_000
            # Each four times, to have nearly as much as a body may.
            body = json.dumps({"keyIds": ids * 4})
            assert 3_000_000 < len(body) < 4 << 20
            assert curl(door.url, "/keepalive", "PUT", body, 200) == {"missing": []}
            assert curl(door.url, "/keys", "PUT", body, 200) == {"missing": []}
            # Of a length that is not told.
            some = json.dumps({"keyIds": ids[:1000]})
            assert curl(door.url, "/keepalive", "PUT", some, 200, "Transfer-Encoding: chunked") == {"missing": []}
            stats = server.stats()
            assert stats["free"] == stats["keys"] and stats["totals"]["released"] == stats["totals"]["leased"], stats
            print(f"  {name}: 20,000 keys in an answer, {len(body)} bytes in a request")


def curl(url, path, method, body, status, *headers):
    command = ["curl", "--disable", "--silent", "--show-error", "--max-time", "60", "--request", method]
    command += ["--header", "Content-Type: application/json", "--data-binary", "@-"] if body else []
    for header in headers:
        command += ["--header", header]
    command += ["--write-out", "\n%{http_code}", url + path]
    ended = subprocess.run(command, input=body, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    text, _, code = ended.stdout.rpartition("\n")
    assert int(code) == status, ended.stdout[:500]
    return json.loads(text)


def check_idle(bench):
    """Pauses in which idle connections are closed: by the proxy, and by the server before the client or after the proxy."""
    # Longer than that of the proxies, as it must be.
    options = ["--idle-timeout", "3s"] if bench.knows("--idle-timeout") else []
    with bench.server(*options) as server:
        upstream = {"keepalive 64;": "keepalive 64; keepalive_timeout 1s;"}
        with bench.nginx(server, **upstream) as nginx, bench.haproxy(server, **{"purge-delay 60s": "purge-delay 1s"}) as haproxy:
            # Just before, just after, and about when the proxy closes its connections.
            pauses = [0.9, 0.99, 1.0, 1.01, 1.1]
            jobs = [(server, Job("aiohttp", door.url, 20, pause=pause)) for door in [nginx, haproxy] for pause in pauses]
            if options:
                # When the server has closed the connection, each client notices.
                jobs += [(server, Job(client, server.url, 8, pause=5)) for client in bench.clients]
            load.run(bench.tools, [server], jobs)
            assert not nginx.complaints() and not haproxy.complaints(), (nginx.complaints(), haproxy.complaints())


PARTS = {
    "load": check_load,
    "protocols": check_protocols,
    "waiting": check_waiting,
    "events": check_events,
    "bodies": check_bodies,
    "idle": check_idle,
}
