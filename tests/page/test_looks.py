"""Sizes, colours, and pictures."""

import io
import os

from PIL import Image

from browser import await_state, await_text, await_true, opened, until
from feed import Feed, sample
from server import Load, Server

# Each text with too little contrast to its background (WCAG 2.2, 1.4.3).
FAINT = """() => {
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = channels(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility() || ['SCRIPT', 'NOSCRIPT'].includes(element.tagName)) continue;
        const style = getComputedStyle(element);
        const [one, other] = [luminance(channels(element.closest('svg') ? style.fill : style.color)), luminance(behind(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) faint.push(`${node.data.trim()}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""
# Each field without a name, and each that cannot be focused.
NAMELESS = """() => [...document.querySelectorAll('input, select, textarea, button, [role=img]')].filter(one => one.checkVisibility()
    && !(one.labels?.length || one.getAttribute('aria-label') || one.innerText) || one.tabIndex < 0).map(one => one.outerHTML)"""


def fill_it(page):
    """Shows everything that can be shown."""
    await_state(page, "live")
    page.fill("#count", "3")
    page.click("#create-form button")
    await_text(page, "#create-note", "Created 3 keys.")
    page.click("#ids li:first-child button:last-child")
    page.wait_for_selector("#key:not([hidden])")
    page.click("#delete")
    page.fill("#holder", "worker-7")
    page.click("#take-form button")
    page.fill("#import-labels", "plan")
    page.fill("#values", "sk-1\n" + 200 * "sk-")
    page.click("#import-form button")
    await_text(page, "#import-note", "A label is malformed")
    page.click("#list-form button")
    page.wait_for_selector("#list tbody tr")
    page.evaluate("document.querySelector('#choose-title').textContent = 'There is no pool'; document.querySelector('#choose').hidden = false")
    page.evaluate("document.querySelector('#auth').hidden = false")


def test_a_phone_shows_it_without_scrolling_sideways(browser, binary):
    with Server(binary) as server:
        for width in (360, 320):
            with opened(browser, server, viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True) as page:
                fill_it(page)
                sizes = page.evaluate("[document.documentElement.scrollWidth, innerWidth, document.documentElement.scrollHeight > innerHeight]")
                assert sizes == [width, width, True], sizes
                page.tap("[data-chart=keys]")
                page.wait_for_selector("[data-chart=memory] .cross", state="attached")


def test_both_colour_schemes_can_be_read(browser, binary):
    backgrounds = []
    with Server(binary) as server:
        for scheme in ("light", "dark"):
            with opened(browser, server, color_scheme=scheme) as page:
                fill_it(page)
                assert page.evaluate(FAINT) == []
                assert page.evaluate(NAMELESS) == []
                backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(244, 245, 247)", "rgb(14, 17, 22)"]


def test_numbers_that_grow_move_nothing(browser, binary):
    """Every number fits into its place, from the smallest to the largest that the server can count."""
    boxes = """() => [...document.querySelectorAll('.card, .legend, .plot')].map(one => {
        const { x, y, width, height } = one.getBoundingClientRect(); return [x, y, width, height]; })"""
    cut = """() => [...document.querySelectorAll('[data-stat], .sub, .legend li, .label')].filter(one => one.scrollWidth > one.clientWidth + 1
        && one.clientWidth).map(one => one.textContent)"""
    least, most = sample(0), sample(1000)
    keys, total = 2 ** 32 - 1, 999_999_999_999
    most["stats"] = {name: keys for name in most["stats"]} | {"totals": {name: total for name in most["stats"]["totals"]}}
    most |= {"sweepLagMs": 3_600_000, "connections": 1_000_000, "requests": total, "residentBytes": 2 ** 40,
             "latencyUs": {"p50": 999.0, "p90": 999_000.0, "p99": 9_990_000.0, "p999": 99_900_000.0}}
    with Server(binary) as server:
        for width in (320, 390, 768, 1280, 1920):
            with Feed(server) as feed, opened(browser, feed, viewport={"width": width, "height": 740}) as page:
                feed.send("hello", {"version": "1", "sampleMs": 1000})
                feed.send("history", [least])
                await_true(page, "document.body.dataset.samples === '1'")
                before = page.evaluate(boxes)
                feed.send("sample", most)
                await_true(page, "document.body.dataset.samples === '2'")
                assert page.evaluate(boxes) == before, width
                assert page.evaluate(cut) == [], width


def take_pictures(browser, binary, directory):
    """Four pictures of a server that has been busy for five minutes."""
    with Server(binary, "--lease-ttl", "3s", "--key-ttl", "40s") as server, Load(server, clients=16, pause=0.04):
        with opened(browser, server) as page:
            until(lambda: page.evaluate("Number(document.body.dataset.samples)") >= 290, "five minutes of samples", 400)
        for scheme in ("light", "dark"):
            for name, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
                with opened(browser, server, color_scheme=scheme, viewport={"width": width, "height": height}) as page:
                    await_true(page, "document.body.dataset.samples >= 290")
                    path = os.path.join(directory, f"dashboard-{scheme}-{name}.png")
                    # 256 colours are enough for a page, and make a third of the bytes.
                    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
                    print(f"{path}: {os.path.getsize(path) // 1024} KiB")
