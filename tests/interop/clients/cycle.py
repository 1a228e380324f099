"""What a careful worker sends, as a generator: it yields requests and is sent their answers."""

import collections
import json
import uuid

Request = collections.namedtuple("Request", "method path status json if_match", defaults=(None, None))
Answer = collections.namedtuple("Answer", "status headers json")


class Counts(collections.Counter):
    """What was sent, as the server's metrics name it, and what became of keys."""

    def check(self, request, answer):
        """Every answer passes here: each status is the expected one."""
        assert answer.status == request.status, (request, answer)
        self[f"{request.method} {route(request.path)} {answer.status}"] += 1


def route(path):
    """The label of the metrics."""
    path, _, query = path.partition("?")
    parts = path.split("/")
    if len(parts) > 2:
        parts[2] = "{id}"
    return "/".join(parts) + ("?wait" if "wait=" in query else "")


def cycle(counts, number):
    """Creates 4 keys and deletes 3, by 31 requests. A worker leases at most 2 keys at once, fewer than it created, so that
    there is always a free one for everybody."""
    answer = yield Request("POST", "/keys", 201, {"count": 3})
    assert len(answer.json["keyIds"]) == 3, answer
    answer = yield Request("POST", "/keys", 201)
    assert answer.headers["location"] == "/keys/" + answer.json["keyId"], answer
    counts["created"] += 4

    for turn in range(3):
        key, tag = yield from lease(counts)
        answer = yield Request("PUT", f"/keepalive/{key}", 200)
        assert answer.headers["key-expires-at"], answer
        answer = yield Request("PUT", f"/keys/{key}/lease", 200, if_match=tag)
        assert answer.headers["etag"] == tag, answer
        # The tag of an earlier lease ends nothing.
        earlier = json.dumps(str(int(json.loads(tag)) - 1))
        yield Request("PUT", f"/keys/{key}", 412, if_match=earlier)
        counts["stale"] += 1
        cooldown = "?cooldown=5ms" if turn == number % 3 else ""
        yield Request("PUT", f"/keys/{key}{cooldown}", 200, if_match=tag)
        counts["released"] += 1

    answer = yield Request("GET", "/keys?count=2&wait=1s", 200)
    keys = [lease["keyId"] for lease in answer.json["keys"]]
    assert 1 <= len(keys) <= 2, answer
    answer = yield Request("PUT", "/keepalive", 200, {"keyIds": keys})
    assert answer.json == {"missing": []}, answer
    unknown = str(uuid.uuid4())
    answer = yield Request("PUT", "/keys", 200, {"keyIds": [*keys, unknown]})
    assert answer.json == {"missing": [unknown]}, answer
    counts["leased"] += len(keys)
    counts["released"] += len(keys)

    yield Request("GET", f"/keys/{unknown}", 404)
    yield Request("GET", "/keys?wait=soon", 400)
    yield Request("PUT", "/keys", 422, {})

    for _ in range(3):
        key, tag = yield from lease(counts)
        yield Request("DELETE", f"/keys/{key}", 200, if_match=tag)
        counts["deleted"] += 1
    yield Request("DELETE", f"/keys/{key}", 404, if_match=tag)

    stats = (yield Request("GET", "/stats", 200)).json
    assert stats["keys"] == stats["free"] + stats["blocked"] + stats["cooling"], stats
    assert stats["totals"]["created"] == stats["totals"]["deleted"] + stats["keys"], stats


def lease(counts):
    answer = yield Request("GET", "/keys?wait=1s", 200)
    counts["leased"] += 1
    assert answer.headers["lease-expires-at"], answer
    return answer.json["keyId"], answer.headers["etag"]
