"""The formats of this API for schemathesis: some of its values should be known to the server."""

import json
import os
import urllib.error
import urllib.request
import uuid

import schemathesis
from hypothesis import strategies


def send(method, path, body):
    """The answer to a request."""
    request = urllib.request.Request(f"{os.environ['SERVER']}{path}", json.dumps(body).encode(), method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def put_if_missing(pool):
    """Creates a pool that was deleted."""
    try:
        send("GET", f"/pools/{pool}", {})
    except urllib.error.HTTPError as refusal:
        assert refusal.code == 404, refusal
        send("PUT", f"/pools/{pool}", {})


def create(pool, count):
    """Ids of new keys."""
    return send("POST", f"{pool}/keys", {"count": count})["keyIds"]


# Few names, so that pools are there and are changed.
POOLS = ["a", "b-1", "c.d_e"]
schemathesis.openapi.format("pool-name", strategies.sampled_from(POOLS))
for name in POOLS:
    send("PUT", f"/pools/{name}", {})

KNOWN = create("", 1000)
# Mostly known ones, so that there is something to do for each operation.
IDS = strategies.one_of(*[strategies.sampled_from(KNOWN)] * 3, strategies.uuids().map(str))
schemathesis.openapi.format("uuid", IDS)

# Mostly labels that keys have.
LABELS = {"plan": "pro", "region": "eu"}
KEPT = strategies.sampled_from([f"{name}:{value}" for name, value in LABELS.items()])
ANY_LABEL = strategies.from_regex(r"[^:]{1,63}:.{1,63}", fullmatch=True)
schemathesis.openapi.format("label", strategies.one_of(*[KEPT] * 3, ANY_LABEL))

# The lease of a key's first holder, or any list of tags, almost all of which name no lease.
FIRST = strategies.sampled_from(["*", '"0"', '"1"', '"0", "1"'])
ANY = strategies.from_regex(r'(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)', fullmatch=True)
schemathesis.openapi.format("entity-tags", strategies.one_of(FIRST, ANY))


@schemathesis.hook
def before_call(context, case, kwargs):
    """Lets a known id name a key of the pool, and a lease find one. Other requests delete keys, or give a pool's keys a short life."""
    parameters = case.path_parameters or {}
    pool = parameters.get("pool", "default")
    if pool in POOLS and case.path != "/pools/{pool}":
        put_if_missing(pool)
    if parameters.get("id") in KNOWN and pool in [*POOLS, "default"]:
        send("PUT", f"/pools/{pool}", {})
        [parameters["id"]] = create(f"/pools/{pool}", 1)
        if case.method == "PUT":
            # It is to be leased, or there is nothing to release or to renew.
            parameters["id"] = send("GET", f"/pools/{pool}/keys", {})["keyId"]
    leases = case.method == "GET" and case.path.endswith("/keys") or case.method == "POST" and case.path.endswith("/leases")
    if leases and pool in [*POOLS, "default"]:
        # There is to be a key to lease, also by a label.
        send("PUT", f"/pools/{pool}", {})
        send("POST", f"/pools/{pool}/keys", {"keys": [{"value": str(uuid.uuid4()), "labels": LABELS}]})
