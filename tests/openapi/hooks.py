"""The formats of this API for schemathesis: some of its values should be known to the server."""

import json
import os
import urllib.request

import schemathesis
from hypothesis import strategies


def create(count):
    """Ids of new keys."""
    body = json.dumps({"count": count}).encode()
    with urllib.request.urlopen(f"{os.environ['SERVER']}/keys", body, timeout=10) as answer:
        return json.load(answer)["keyIds"]


IDS = strategies.one_of(strategies.sampled_from(create(1000)), strategies.uuids().map(str))
schemathesis.openapi.format("uuid", IDS)

# The lease of a key's first holder, or any list of tags, almost all of which name no lease.
FIRST = strategies.sampled_from(["*", '"0"', '"1"', '"0", "1"'])
ANY = strategies.from_regex(r'(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)', fullmatch=True)
schemathesis.openapi.format("entity-tags", strategies.one_of(FIRST, ANY))
