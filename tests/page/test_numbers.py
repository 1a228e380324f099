"""The numbers and charts under load, compared with /stats."""

import time

from browser import await_state, await_true, flat, numbers, opened, until
from server import Load, Server

# How many samples the page had when it first had any.
FIRST = """new MutationObserver(() => { if (!window.first && document.body) window.first = Number(document.body.dataset.samples); })
    .observe(document, { attributes: true, subtree: true, attributeFilter: ['data-samples'] });"""


def test_numbers_are_those_of_the_server(browser, binary):
    with Server(binary, "--lease-ttl", "300ms") as server:
        with Load(server):
            until(lambda: len(server.history()) > 2 and server.stats()["totals"]["leaseTimeouts"] > 20, "leases run out")
            with opened(browser, server, script=FIRST) as page:
                await_state(page, "live")
                await_true(page, "window.first")
                assert page.evaluate("window.first") > 2, "the history is there at once"
                lie_between_two_answers(page, server)
        with opened(browser, server) as page:
            until(lambda: at_rest(server.stats()), "all leases are over")
            until(lambda: equal(page, server), "the page is up to date", 5)
            _, shown = numbers(page)
            expected = flat(server.stats())
            assert {name: shown[name] for name in expected} == expected
            charts_have_data(page)


def lie_between_two_answers(page, server):
    seen = []
    for _ in range(3):
        low, moment = flat(server.stats()), time.time() * 1000
        at, shown = until(lambda: (now := numbers(page))[0] > moment and now, "a newer sample")
        high = flat(server.stats())
        for name in low:
            if name.startswith("totals."):
                assert low[name] <= shown[name] <= high[name], (name, low, shown, high)
        assert shown["totals.created"] - shown["totals.expired"] - shown["totals.deleted"] == shown["keys"]
        assert shown["keys"] == shown["free"] + shown["blocked"] + shown["cooling"]
        seen.append((at, shown["requests"], shown["totals.leased"], shown["totals.released"], shown["totals.leaseTimeouts"]))
    for before, after in zip(seen, seen[1:]):
        assert all(old < new for old, new in zip(before, after)), ("numbers move", seen)


def at_rest(stats):
    return stats["blocked"] == stats["cooling"] == stats["waiting"] == stats.get("blockEntries", 0) == 0


def equal(page, server):
    at, shown = numbers(page)
    return at and all(shown[name] == value for name, value in flat(server.stats()).items())


def charts_have_data(page):
    charts = page.evaluate("""() => Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(chart => [chart.dataset.chart, {
        says: chart.getAttribute('aria-label'), role: chart.getAttribute('role'),
        paths: [...chart.querySelectorAll('path')].map(path => [path.getAttribute('d').split(/[ML]/).length, path.getBBox().width])}]))""")
    wanted = {"keys": 3, "rates": 4, "latency": 4, "requests": 2, "waiting": 2, "lag": 2, "memory": 2, "connections": 2}
    assert {name: len(chart["paths"]) for name, chart in charts.items()} == wanted, charts
    for name, chart in charts.items():
        assert chart["role"] == "img"
        assert any(digit.isdigit() for digit in chart["says"].partition(":")[2]), chart
        for points, width in chart["paths"]:
            assert points > 3 and width > 1, (name, chart)
