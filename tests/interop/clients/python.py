"""Cycles by `requests`, `httpx` and `aiohttp`: four at a time, each library in its usual way. Prints what was sent."""

import asyncio
import concurrent.futures
import json
import ssl
import time

from arguments import arguments
from cycle import Answer, Counts, cycle

WORKERS = 4
# Far longer than any answer should take, on a busy machine, too.
TIMEOUT_S = 60


def headers(request):
    return {"If-Match": request.if_match} if request.if_match else {}


def turns(options, worker):
    """The numbers of the cycles that a worker runs."""
    return range(worker, options.cycles, WORKERS)


def by_requests(options):
    import requests

    def work(counts, worker):
        with requests.Session() as session:
            # Without the settings of the environment, which `requests` prefers.
            session.trust_env = False
            session.verify = options.ca or True

            def send(request):
                more = {"headers": headers(request), "json": request.json, "timeout": TIMEOUT_S}
                reply = session.request(request.method, options.url + request.path, **more)
                assert not reply.history and reply.raw.version == 11, reply.raw.version
                return Answer(reply.status_code, reply.headers, reply.json())

            run(options, counts, worker, send)

    return threads(work)


def by_httpx(options):
    import httpx

    with httpx.Client(verify=trust(options), timeout=TIMEOUT_S) as client:

        def send(request):
            more = {"headers": headers(request), "json": request.json}
            return httpx_answer(options, client.request(request.method, options.url + request.path, **more))

        return threads(lambda counts, worker: run(options, counts, worker, send))


def httpx_answer(options, reply):
    assert reply.http_version == options.protocol, reply.http_version
    return Answer(reply.status_code, reply.headers, reply.json())


def run(options, counts, worker, send):
    for number in turns(options, worker):
        steps = cycle(counts, number)
        answer = None
        try:
            while True:
                request = steps.send(answer)
                answer = send(request)
                counts.check(request, answer)
        except StopIteration:
            time.sleep(options.pause)


def threads(work):
    """Each worker counts on its own, because counters of threads could lose something."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        counts = [Counts() for _ in range(WORKERS)]
        for result in [pool.submit(work, counts[worker], worker) for worker in range(WORKERS)]:
            result.result()
    return sum(counts, Counts())


async def run_async(options, send):
    """As `threads`, by tasks."""
    counts = Counts()

    async def work(worker):
        for number in turns(options, worker):
            steps = cycle(counts, number)
            answer = None
            while True:
                try:
                    request = steps.send(answer)
                except StopIteration:
                    break
                answer = await send(request)
                counts.check(request, answer)
            await asyncio.sleep(options.pause)

    await asyncio.gather(*map(work, range(WORKERS)))
    return counts


def trust(options):
    return ssl.create_default_context(cafile=options.ca) if options.ca else True


async def by_httpx2(options):
    """Over one connection. Threads cannot share one: httpx numbers streams without a lock."""
    import httpx

    # With TLS the handshake decides; without, HTTP/2 needs prior knowledge.
    async with httpx.AsyncClient(http1=bool(options.ca), http2=True, verify=trust(options), timeout=TIMEOUT_S) as client:

        async def send(request):
            more = {"headers": headers(request), "json": request.json}
            return httpx_answer(options, await client.request(request.method, options.url + request.path, **more))

        return await run_async(options, send)


async def by_aiohttp(options):
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=trust(options))
    async with aiohttp.ClientSession(options.url, connector=connector, timeout=timeout) as session:

        async def send(request):
            more = {"headers": headers(request), "json": request.json}
            async with session.request(request.method, request.path, **more) as reply:
                assert reply.version == aiohttp.HttpVersion11, reply.version
                return Answer(reply.status, reply.headers, await reply.json(content_type=None))

        return await run_async(options, send)


def main():
    options = arguments()
    if options.library == "requests":
        counts = by_requests(options)
    elif options.library == "aiohttp":
        counts = asyncio.run(by_aiohttp(options))
    elif options.protocol == "HTTP/2":
        counts = asyncio.run(by_httpx2(options))
    else:
        counts = by_httpx(options)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
