"""The forms: what they do is checked at the API."""

import uuid

from browser import await_state, await_text, opened, refused, until
from server import Server

MALFORMED = [
    "nonsense", "../stats", "%2e%2e/stats", "?", "#", "21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f/lease",
    "<img src=x onerror=window.hit=1>", '"><script>window.hit=1</script>', "javascript:window.hit=1", "\u202e{}",
]


def look_up(page, key):
    page.fill("#key-id", key)
    page.press("#key-id", "Enter")


def fact(page, name):
    return page.inner_text(f"[data-fact='{name}'] span")


def shows(page, server, key):
    """The page shows what the API answers now."""
    answer = server.api("GET", f"/keys/{key}")
    expected = {
        "Key": key, "State": "Blocked" if answer.json["isBlocked"] else "Free", "Created at": answer.json["createdAt"],
        "Blocked at": answer.json["blockedAt"] or "–", "Lease expires at": answer.headers["lease-expires-at"] or "–",
        "Key expires at": answer.headers["key-expires-at"], "ETag": answer.headers["etag"],
    }
    until(lambda: page.is_visible("#key") and {name: fact(page, name) for name in expected} == expected, f"the page shows {expected}")
    return answer


def test_keys_are_created_looked_up_released_and_deleted(browser, binary):
    with Server(binary) as server, opened(browser, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        await_state(page, "live")
        page.fill("#count", "3")
        page.click("#create-form button")
        await_text(page, "#create-note", "Created 3 keys.")
        ids = page.locator("#ids code").all_inner_texts()
        assert len(set(ids)) == 3 and server.stats()["totals"]["created"] == 3
        page.click(f"[aria-label='Copy {ids[1]}']")
        until(lambda: page.evaluate("navigator.clipboard.readText()") == ids[1], "the id is copied")

        page.click(f"[aria-label='Look up {ids[0]}']")
        assert not shows(page, server, ids[0]).json["isBlocked"]
        assert page.is_hidden("#release")
        key, etag = server.lease()
        look_up(page, key)
        assert shows(page, server, key).headers["etag"] == etag
        assert " in " in page.inner_text("[data-fact='Lease expires at']")
        page.click("#release")
        await_text(page, "#look-note", "Released.")
        assert not shows(page, server, key).json["isBlocked"]

        # The key in the field is not the one that is shown, and is not deleted.
        page.fill("#key-id", next(other for other in ids if other != key))
        page.click("#delete")
        assert page.evaluate("document.activeElement.id") == "confirm-no"
        page.click("#confirm-no")
        assert page.is_hidden("#confirm") and server.api("GET", f"/keys/{key}").status == 200
        page.click("#delete")
        page.click("#confirm-yes")
        await_text(page, "#look-note", "Deleted.")
        assert page.is_hidden("#key") and server.api("GET", f"/keys/{key}").status == 404
        assert server.stats()["keys"] == 2
        assert key not in page.url and ids[0] not in page.url


def test_many_created_keys_are_a_short_list(browser, binary):
    complaints = [refused(503, "/keys")]
    with Server(binary, "--max-keys", "1000") as server, \
            opened(browser, server, complaints=complaints, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.fill("#count", "400")
        page.click("#create-form button")
        await_text(page, "#create-note", "Created 400 keys.")
        assert page.locator("#ids li").count() == 100
        page.click("#copy-all")
        ids = until(lambda: (text := page.evaluate("navigator.clipboard.readText()")) and text.split("\n"), "copied")
        assert len(set(ids)) == 400
        assert server.api("PUT", "/keepalive", {"keyIds": ids}).json == {"missing": []}
        page.click("#clear")
        assert page.is_hidden("#created")

        for wrong in ["0", "-1", "1.5", "100001", ""]:
            page.fill("#count", wrong)
            page.click("#create-form button")
        page.fill("#count", "700")
        page.click("#create-form button")
        # There is no room for so many.
        page.wait_for_selector("#create-note[data-kind=bad] strong")
        problem = server.api("POST", "/keys", {"count": 700}).json
        text = page.inner_text("#create-note")
        assert problem["title"] in text and problem["detail"] in text, text
        assert server.stats()["totals"]["created"] == 400


def test_unknown_and_malformed_ids_are_no_keys(browser, binary):
    unknown = str(uuid.uuid4())
    with Server(binary) as server, opened(browser, server, complaints=[refused(404, f"/keys/{unknown}")]) as page:
        await_state(page, "live")
        [key] = server.create(1)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        for wrong in [unknown, *MALFORMED]:
            # A known key in between: the awaited text must not be that of the previous id.
            look_up(page, f" {key.upper()} ")
            page.wait_for_selector("#key:not([hidden])")
            look_up(page, wrong)
            await_text(page, "#look-note", "No such key")
            assert page.is_hidden("#key")
        assert {url.rsplit("/", 1)[1] for url in asked} == {unknown, key.upper()}, asked
        assert page.evaluate("window.hit === undefined && document.images.length === 0 && document.scripts.length === 1")


def test_a_lease_that_is_over_is_not_acted_on(browser, binary):
    key_path = "/keys/[0-9a-f-]{36}"
    with Server(binary) as server, opened(browser, server, complaints=[refused(412, key_path), refused(404, key_path)]) as page:
        [key] = server.create(1)
        server.lease()
        look_up(page, key)
        shows(page, server, key)
        assert server.api("PUT", f"/keys/{key}").status == 200
        _, etag = server.lease()
        title = server.api("PUT", f"/keys/{key}", If_Match='"0"').json["title"]
        for clicks in [["#release"], ["#delete", "#confirm-yes"]]:
            for button in clicks:
                page.click(button)
            page.wait_for_selector("#look-note[data-kind=bad]")
            text = await_text(page, "#look-note", title)
            assert "Look it up again" in text, text
            answer = server.api("GET", f"/keys/{key}")
            assert answer.json["isBlocked"] and answer.headers["etag"] == etag, "nothing was done"
            look_up(page, key)
            shows(page, server, key)
            assert server.api("PUT", f"/keys/{key}").status == 200
            _, etag = server.lease()
        look_up(page, key)
        shows(page, server, key)
        assert server.api("DELETE", f"/keys/{key}").status == 200
        page.click("#release")
        await_text(page, "#look-note", "No such key")
