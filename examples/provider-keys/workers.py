"""Workers that share API keys through the server: docs/provider-keys.md.

    workers.py SERVER POOL PROVIDER WORKERS JOBS
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

SERVER, POOL, PROVIDER = sys.argv[1:4]
WORKERS, JOBS = map(int, sys.argv[4:])
KEYS = f"{SERVER}/pools/{POOL}/keys"


def ask(method, url, headers=None):
    """Status, headers and body of an answer."""
    try:
        with urlopen(Request(url, method=method, headers=headers or {}), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as refusal:
        return refusal.code, refusal.headers, refusal.read()


def do_job(worker):
    """Does one job, with as many keys as that takes. Returns how many were retired."""
    retired = 0
    while True:
        status, lease, body = ask("POST", f"{SERVER}/pools/{POOL}/leases?wait=30s&holder={worker}")
        if status != 201:
            # No key has become free meanwhile.
            continue
        key = json.loads(body)
        # What follows is about this lease only: if it has timed out meanwhile, the key is another worker's.
        fence = {"If-Match": lease["ETag"]}
        status, answer, _ = ask("GET", f"{PROVIDER}/job", {"Authorization": f"Bearer {key['value']}"})
        if status == 429:
            # The key rests for as long as the provider says, and nobody gets it.
            ask("PUT", f"{KEYS}/{key['keyId']}?cooldown={answer['Retry-After']}s", fence)
        elif status == 401:
            ask("DELETE", f"{KEYS}/{key['keyId']}", fence)
            retired += 1
        else:
            ask("PUT", f"{KEYS}/{key['keyId']}", fence)
            return retired


with ThreadPoolExecutor(WORKERS) as workers:
    retired = sum(workers.map(do_job, (f"worker-{n % WORKERS}" for n in range(JOBS))))
print(f"{JOBS} jobs are done; {retired} keys were retired")
