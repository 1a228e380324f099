"""The stream of samples: cut, ended, endless, odd, and unseen."""

import json

from browser import CUT, GONE, await_state, await_text, await_true, opened, until
from feed import Feed, sample
from server import Server

START = 1_764_000_000_000
# What the page has read, drawn or not; and a tab that tests hide and show.
SPY = """{
    const parse = JSON.parse;
    JSON.parse = text => { const value = parse(text); window.heard = value.at ?? window.heard; return value; };
    window.away = false;
    Object.defineProperty(document, 'hidden', { get: () => window.away });
    window.setAway = away => { window.away = away; document.dispatchEvent(new Event('visibilitychange')); };
}"""

# The network merges separate writes: here the page gets each byte by itself.
BYTES = """{
    const whole = window.fetch;
    window.fetch = async (...request) => {
        const answer = await whole(...request);
        const apart = new TransformStream({ transform(chunk, to) { for (const byte of chunk) to.enqueue(Uint8Array.of(byte)); } });
        return new Response(answer.body.pipeThrough(apart), answer);
    };
}"""


def held(page):
    return page.evaluate("Number(document.body.dataset.samples)")


def await_drawn(page, at):
    await_true(page, "at => document.body.dataset.at === String(at)", at)


def stretches(page, chart="latency"):
    """How many pieces the first line of a chart has."""
    return page.evaluate("chart => (document.querySelector(`[data-chart=${chart}] .line`)?.getAttribute('d') ?? '').split('M').length - 1", chart)


def test_a_page_reconnects_to_a_restarted_server(browser, binary):
    with Server(binary) as server, opened(browser, server, complaints=[GONE], maybe=[CUT]) as page:
        server.create(7)
        await_state(page, "live")
        await_true(page, "document.querySelector('[data-stat=keys]').dataset.value === '7'")
        await_true(page, "document.body.dataset.samples > 2")
        server.stop()
        await_text(page, "#state", "Reconnecting since ")
        # Long enough that samples are missing.
        await_true(page, "Date.now() - Number(document.body.dataset.at) > 3000")
        before = held(page)
        server.start()
        await_state(page, "live")
        left = 7 if server.keeps else 0
        await_true(page, "left => document.querySelector('[data-stat=keys]').dataset.value === String(left)", left)
        await_true(page, "before => document.body.dataset.samples > before + 1", before)
        # The charts show the gap.
        assert stretches(page, "connections") == 2

        page.click("#pause")
        assert page.inner_text("#state") == "Stopped"
        server.create(1)
        at = page.evaluate("document.body.dataset.at")
        page.click("#pause")
        await_state(page, "live")
        await_true(page, "([at, keys]) => document.body.dataset.at > at && document.querySelector('[data-stat=keys]').dataset.value === keys",
                   [at, str(left + 1)])


def test_samples_are_read_however_they_are_cut(browser, binary):
    with Server(binary) as server, Feed(server) as feed, opened(browser, feed, script=BYTES) as page:
        version = "é☃🔑 <img src=x onerror=window.hit=1>"
        lines = [
            ": a comment", "event: hello", f"data: {json.dumps({'version': version, 'sampleMs': 1000}, ensure_ascii=False)}", "",
            "event:history", "data:[", f"data: {json.dumps(sample(START))}", "data:]", "", "retry: 1", ": ping", "",
            "event: unknown", "data: {}", "", "id: 7", "event: sample", f"data: {json.dumps(sample(START + 1000))}", "", "",
        ]
        for newline in ["\r\n", "\r", "\n"]:
            feed.stream.put(newline.join(lines).encode())
            await_drawn(page, START + 1000)
            assert (held(page), page.inner_text("#version")) == (2, version), repr(newline)
            # A clock that was set back: samples in its future are dropped, and later those that are too old.
            feed.send("sample", sample(START - 400_000))
            await_drawn(page, START - 400_000)
            assert held(page) == 1
        assert page.evaluate("window.hit === undefined && document.images.length === 0")


def test_samples_are_kept_for_five_minutes(browser, binary):
    with Server(binary) as server, Feed(server) as feed, opened(browser, feed, script=SPY) as page:
        feed.send("hello", {"version": "1", "sampleMs": 1000})
        feed.send("history", [sample(START + 1000 * i) for i in range(1000)])
        await_drawn(page, START + 999_000)
        assert held(page) == 300
        # Also if samples come faster than they should.
        for i in range(1000):
            feed.send("sample", sample(START + 1_000_000 + 100 * i))
        await_drawn(page, START + 1_099_900)
        assert held(page) == 300
        points = page.evaluate("[...document.querySelectorAll('.line')].map(line => line.getAttribute('d').split(/[ML]/).length - 1)")
        assert points and max(points) == 300
        elements = page.evaluate("document.querySelectorAll('*').length")
        assert elements < 800, elements
        # Samples older than five minutes are dropped, however few are left.
        feed.send("sample", sample(START + 5_000_000))
        await_drawn(page, START + 5_000_000)
        assert held(page) == 1


def test_a_hidden_page_draws_nothing(browser, binary):
    with Server(binary) as server, Feed(server) as feed, opened(browser, feed, script=SPY) as page:
        feed.send("hello", {"version": "1", "sampleMs": 1000})
        feed.send("history", [sample(START)])
        await_drawn(page, START)
        page.evaluate("setAway(true)")
        page.evaluate("""window.drawn = 0;
            new MutationObserver(() => { window.drawn++; }).observe(document.querySelector('main'), { childList: true, subtree: true, attributes: true })""")
        for i in range(1, 11):
            feed.send("sample", sample(START + 1000 * i))
        await_true(page, "at => window.heard === at", START + 10_000)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("window.drawn") == 0 and page.evaluate("document.body.dataset.at") == str(START)
        page.evaluate("setAway(false)")
        await_drawn(page, START + 10_000)
        assert held(page) == 11


def test_charts_can_be_read_at_any_moment(browser, binary):
    with Server(binary) as server, Feed(server) as feed, opened(browser, feed, script=SPY) as page:
        feed.send("hello", {"version": "1", "sampleMs": 1000})
        # A gap of a minute, and no requests in one second.
        samples = [sample(START + 1000 * i) for i in range(300) if not 100 <= i < 160]
        samples[30]["latencyUs"] = None
        feed.send("history", samples)
        await_drawn(page, START + 299_000)
        assert stretches(page, "latency") == 3 and stretches(page, "connections") == 2

        def free(text):
            return until(lambda: page.inner_text("[data-chart=keys] >> xpath=.. >> li:nth-child(3) >> b") == text, f"free: {text}")

        newest = samples[-1]["stats"]["free"]
        free(f"{newest:,}")
        assert page.get_attribute("[data-chart=keys]", "aria-label") == f"Keys, now: Blocked 20, Cooling 10, Free {newest:,}"
        page.focus("[data-chart=rates]")
        for _ in range(7):
            page.keyboard.press("ArrowLeft")
        free(f"{newest - 7:,}")
        assert says(page, "rates").endswith(": Leases 2, Releases 3, Timeouts 4, Expiries 6")
        assert page.locator("[data-chart=keys] circle").count() == 3
        page.keyboard.press("Escape")
        free(f"{newest:,}")
        # The middle of the gap, with the mouse; then to the right end of a chart.
        box = page.locator("[data-chart=requests]").bounding_box()
        page.mouse.move(box["x"] + 52 + (box["width"] - 62) * 130 / 300, box["y"] + 50)
        free("–")
        assert page.locator("[data-chart=keys] .cross").count() == 1
        page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 50)
        free(f"{newest:,}")
        page.mouse.move(0, 0)
        await_true(page, "document.querySelectorAll('.cross').length === 0")


def says(page, chart):
    return page.get_attribute(f"[data-chart={chart}]", "aria-label")
