"""Workers that share API keys through the server: docs/provider-keys.md.

    workers.py SERVER POOL PROVIDER WORKERS JOBS

A token is taken from TOKEN_ORCHESTRATOR_TOKEN. Retiring a key needs one with the role admin.
"""

import json
import os
import queue
import sys
import threading
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

SERVER, POOL, PROVIDER = sys.argv[1:4]
WORKERS, JOBS = map(int, sys.argv[4:])
KEYS = f"{SERVER}/pools/{POOL}/keys"
TOKEN = os.environ.get("TOKEN_ORCHESTRATOR_TOKEN")

jobs, retired = queue.SimpleQueue(), []


def ask(method, url, headers):
    """Status, headers and body of an answer."""
    try:
        with urlopen(Request(url, method=method, headers=headers), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as refusal:
        return refusal.code, refusal.headers, refusal.read()


def server(method, url, headers={}):
    """As `ask`, but of the server. Once more where it says when; a refusal of another kind is an error."""
    token = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
    while True:
        status, fields, body = ask(method, url, {**headers, **token})
        if status in (429, 503):
            time.sleep(int(fields["Retry-After"]))
        elif status in (200, 201, 412) or status == 404 and body == b"{}":
            # 412: the lease is over. 404: no key is free, or the key has gone.
            return status, fields, body
        else:
            raise SystemExit(f"{method} {url}: {status} {body.decode()}")


def lease(worker):
    """A key, and the header field that makes requests be about this lease only."""
    while True:
        status, fields, body = server("POST", f"{SERVER}/pools/{POOL}/leases?wait=30s&holder={worker}")
        if status == 201:
            return json.loads(body), {"If-Match": fields["ETag"]}


def do_job(worker):
    """Does one job, with as many keys as that takes."""
    while True:
        key, fence = lease(worker)
        url = f"{KEYS}/{key['keyId']}"
        status, answer, _ = ask("GET", f"{PROVIDER}/job", {"Authorization": f"Bearer {key['value']}"})
        if status == 200:
            server("PUT", url, fence)
            return
        if status == 429:
            # The key rests for as long as the provider says, and nobody gets it.
            server("PUT", f"{url}?cooldown={answer['Retry-After']}s", fence)
        elif status == 401:
            if server("DELETE", url, fence)[0] == 200:
                retired.append(key["keyId"])
        else:
            server("PUT", url, fence)
            raise SystemExit(f"the provider answers {status}")


def work(worker):
    """Does jobs until none is left."""
    try:
        while True:
            jobs.get_nowait()
            do_job(worker)
    except queue.Empty:
        pass
    except SystemExit as failure:
        print(f"{worker}: {failure}", file=sys.stderr)
        os._exit(1)


for number in range(JOBS):
    jobs.put(number)
threads = [threading.Thread(target=work, args=(f"worker-{number}",)) for number in range(WORKERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(f"{JOBS} jobs are done; {len(retired)} keys were retired")
