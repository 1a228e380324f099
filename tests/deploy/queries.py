"""Whether each query of the Grafana dashboard and of the alert rules finds something.

queries.py SERVER TOKEN PROMETHEUS EXPOSITION: the first is watched by the second. What /metrics says is left in a file.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

SERVER, TOKEN, PROMETHEUS, EXPOSITION = sys.argv[1:]
DASHBOARD = Path(__file__).parent.parent.parent / "deploy" / "grafana-dashboard.json"
PATIENCE = 60  # Seconds, for Prometheus to have looked often enough.

# A metric with its labels, whose quoted values may contain braces.
SELECTOR = re.compile(r'\b(?:token_orchestrator|process)_\w+(?:{(?:[^"}]|"[^"]*")*})?')
# The variables of Grafana that this dashboard uses.
VARIABLES = {"$__rate_interval": "20s", "$job": "token-orchestrator", "$instance": ".*", "$pool": ".*"}


def ask(method, path, body=None):
    """The status and the body of the server's answer."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(SERVER + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def prometheus(path, **parameters):
    url = f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as refusal:
        sys.exit(f"{parameters}: {json.load(refusal)['error']}")


def finds(query):
    return bool(prometheus("query", query=query)["result"])


def work():
    """One request of each kind that the queries ask for by its status or route."""
    status, body = ask("POST", "/keys")
    assert status == 201, body
    key = json.loads(body)["keyId"]
    done = [
        ask("GET", "/keys"),
        ask("GET", "/keys"),
        ask("GET", f"/keys/{key}"),
        ask("PUT", f"/keepalive/{key}"),
        ask("POST", "/keys", b'{"count":4}'),
    ]
    assert [status for status, _ in done] == [200, 404, 200, 200, 503], done


def dashboard():
    """The queries of the dashboard, by the panels that make them."""
    model = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in model["panels"] if panel["type"] != "row"]
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels]
    assert len(set(places)) == len(places), "two panels overlap"
    assert len({panel["id"] for panel in model["panels"]}) == len(model["panels"]), "an id twice"
    for panel in panels:
        assert panel["description"], panel["title"]
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            yield panel["title"], query


def rules():
    """The metrics that the alert rules look at."""
    for group in prometheus("rules")["groups"]:
        for rule in group["rules"]:
            for selector in SELECTOR.findall(rule["query"]):
                yield rule["name"], selector


work()
shown = list(dashboard())
queries = shown + list(rules())
# This metric does not exist, so the query must find nothing.
assert not finds("token_orchestrator_nothing")

deadline = time.monotonic() + PATIENCE
missing = queries
while missing and time.monotonic() < deadline:
    missing = [(where, query) for where, query in missing if not finds(query)]
    time.sleep(0.2)
if missing:
    print(*(target["lastError"] for target in prometheus("targets")["activeTargets"]))
for where, query in missing:
    print(f"{where}: nothing is found by {query}")

bad = [rule for group in prometheus("rules")["groups"] for rule in group["rules"] if rule["health"] == "err"]
for rule in bad:
    print(f"{rule['name']}: {rule['lastError']}")

status, exposition = ask("GET", "/metrics")
assert status == 200, exposition
Path(EXPOSITION).write_text(exposition)
used = " ".join(query for _, query in shown)
exposed = re.findall(r"^# TYPE (token_orchestrator_\w+)", exposition, re.MULTILINE)
assert exposed, exposition
unseen = [name for name in exposed if not re.search(rf"\b{name}(_bucket)?\b", used)]
for name in unseen:
    print(f"{name}: not on the dashboard")

if missing or bad or unseen:
    sys.exit(1)
print(f"{len(shown)} queries of the dashboard and {len(queries) - len(shown)} of the alert rules find something")
