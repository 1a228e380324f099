"""Pages in a browser that records what they log and what they load."""

import contextlib
import re
import shutil
import time
from urllib.parse import urlsplit

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
# A failed request is logged by the browser, whether the page deals with it or not.
REFUSED = "Failed to load resource: the server responded with a status of {} "
GONE = "Failed to load resource: net::ERR_CONNECTION_REFUSED "
# Cut while it ran, not ended: which of the two the browser sees at a stop is a matter of time.
CUT = "Failed to load resource: net::ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET) "


def launch(playwright):
    """The browser of the system, headless, with a new profile."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=FLAGS)


@contextlib.contextmanager
def opened(browser, server, *, complaints=(), maybe=(), script=None, path="/dashboard", **context):
    """A page with a storage of its own. `complaints` are patterns, each of which the browser's log must
    have; besides them it may only have those of `maybe`. No other host may be asked for anything."""
    context = browser.new_context(**context)
    context.set_default_timeout(10_000)
    page = context.new_page()
    heard, asked = [], []
    page.on("console", lambda message: heard.append(f"{message.text} {urlsplit(message.location.get('url', '')).path}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    if script:
        page.add_init_script(script)
    page.goto(server.url + path)
    yield page
    page.evaluate("0")  # By then everything that was logged before has been reported.
    context.close()
    for url in asked:
        assert url.startswith((server.url + "/", "data:")), f"the page asked for {url}"
    for line in heard:
        assert any(re.match(pattern, line) for pattern in (*complaints, *maybe)), f"the browser's log: {line}"
    for pattern in complaints:
        assert any(re.match(pattern, line) for line in heard), f"not in the browser's log: {pattern}; {heard}"


def refused(status, path):
    return re.escape(REFUSED.format(status)).replace(r"\ $", "") + r"(\([A-Za-z ]*\) )?" + path + "$"


def await_state(page, state):
    page.wait_for_selector(f"#state[data-state={state}]")


def await_text(page, selector, text):
    """Waits until the element contains the text, and returns all of its text."""
    await_true(page, "([selector, text]) => document.querySelector(selector).innerText.includes(text)", [selector, text])
    return page.inner_text(selector)


INDEXES = {"lifeEntries", "blockEntries", "staleHints"}


def numbers(page):
    """All numbers of the page, drawn in one frame, and the moment that they describe. A store that servers share has no indexes of theirs."""
    at, stats, texts = page.evaluate("""() => {
        const all = [...document.querySelectorAll('[data-stat]')];
        return [+document.body.dataset.at, Object.fromEntries(all.map(one => [one.dataset.stat, +one.dataset.value])),
            Object.fromEntries(all.map(one => [one.dataset.stat, one.textContent]))];
    }""")
    unknown = {name for name, text in texts.items() if text == "–"}
    assert unknown in (set(), INDEXES), unknown
    stats = {name: value for name, value in stats.items() if name not in unknown}
    for name, value in stats.items():
        assert texts[name] == f"{value:,}", (name, value, texts[name])
    return at, stats


def flat(stats):
    """The counts of /stats by the names that the page gives them."""
    counts = {name: value for name, value in stats.items() if name != "totals"}
    return counts | {f"totals.{name}": value for name, value in stats["totals"].items()}


def await_true(page, expression, argument=None):
    """Waits in here: the page's policy forbids `page.wait_for_function`, which evaluates text in there."""
    until(lambda: page.evaluate(expression, argument), expression)


def until(condition, what, seconds=60):
    """The first answer of `condition` that is true."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)
    return answer
