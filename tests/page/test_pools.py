"""The pool that is chosen: its numbers, and the forms, which act in it."""

import tempfile

from browser import await_state, await_text, await_true, opened, refused, until
from server import Server, write_tokens
from test_auth import TOKENS, use

NASTY = 'sk-"quoted"\\ \'</script><img src=x onerror=window.hit=1> é🔑'
VALUES = ["sk-import-one", NASTY, "sk-import-three"]
GONE = refused(404, "/dashboard/events")


def chosen(page):
    return page.input_value("#pool")


def await_number(page, name, value):
    await_true(page, "([name, value]) => document.querySelector(`[data-stat='${name}']`).dataset.value === String(value)", [name, value])


def new_pool(server, name, keys=0, **settings):
    assert server.api("PUT", f"/pools/{name}", settings).status == 201
    if keys:
        assert server.api("POST", f"/pools/{name}/keys", {"count": keys}).status == 201


def rows(page):
    return page.locator("#list tbody tr")


def listed(page):
    return page.locator("#list tbody code").all_inner_texts()


def import_text(page, text, labels=""):
    page.fill("#values", text)
    page.fill("#import-labels", labels)
    page.click("#import-form button")


def keys_of(server, pool, **query):
    """The keys with their labels, all pages."""
    found, cursor = [], ""
    while cursor is not None:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        answer = server.api("GET", f"/pools/{pool}/inventory?{text}{cursor and '&cursor=' + cursor}").json
        found += answer["keys"]
        cursor = answer["cursor"]
    return found


def test_a_pool_is_chosen_and_stays_chosen(browser, binary):
    with Server(binary) as server, opened(browser, server) as page:
        server.create(2)
        new_pool(server, "openai", 5)
        new_pool(server, "aaa")
        page.reload()
        await_state(page, "live")
        await_number(page, "keys", 2)
        await_true(page, "document.querySelector('#pool').length === 3")
        assert page.locator("#pool option").all_inner_texts() == ["default", "aaa", "openai"], "the default pool comes first"
        page.select_option("#pool", "openai")
        await_number(page, "keys", 5)
        assert page.url.endswith("/dashboard?pool=openai") and page.title().startswith("openai")
        assert set(page.locator("[data-pool]").all_inner_texts()) == {"openai"}
        requests = "Number(document.querySelector('[data-stat=requests]').dataset.value) > 0"
        assert page.evaluate(requests), "the server's own numbers are there as well"
        assert page.evaluate("document.body.dataset.samples < 5"), "no samples of the other pool"
        page.reload()
        await_number(page, "keys", 5)
        assert chosen(page) == "openai"
        page.go_back()
        await_number(page, "keys", 2)
        assert chosen(page) == "default" and page.url.endswith("/dashboard")
        page.go_forward()
        await_number(page, "keys", 5)

        # The forms act in the chosen pool.
        page.fill("#count", "3")
        page.click("#create-form button")
        await_text(page, "#create-note", "Created 3 keys.")
        key = server.api("GET", "/pools/openai/keys?holder=worker-7").json["keyId"]
        page.fill("#key-id", key)
        page.press("#key-id", "Enter")
        page.wait_for_selector("#key:not([hidden])")
        assert page.inner_text("[data-fact=Holder] span") == "worker-7"
        page.click("#release")
        await_text(page, "#look-note", "Released.")
        page.click("#delete")
        page.click("#confirm-yes")
        await_text(page, "#look-note", "Deleted.")
        stats = server.api("GET", "/pools/openai/stats").json
        assert (stats["keys"], stats["blocked"], stats["totals"]["deleted"]) == (7, 0, 1)
        assert server.stats()["keys"] == 2
        # What was shown of a pool goes with it.
        page.select_option("#pool", "aaa")
        await_number(page, "keys", 0)
        assert page.is_hidden("#created") and page.inner_text("#create-note") == "" == page.inner_text("#look-note")


def test_a_thousand_pools_can_be_chosen(browser, binary):
    with Server(binary, "--max-pools", "1500") as server:
        for i in range(1200):
            new_pool(server, f"p{i:04}")
        with opened(browser, server) as page:
            await_true(page, "document.querySelector('#pool').length === 1201")
            page.select_option("#pool", "p1199")
            await_state(page, "live")
            page.click("#create-form button")
            await_text(page, "#create-note", "Created 1 key.")
            assert server.api("GET", "/pools/p1199/stats").json["keys"] == 1


def test_keys_are_listed_by_state_and_label_a_page_at_a_time(browser, binary):
    with Server(binary) as server, opened(browser, server, path="/dashboard?pool=openai", complaints=[GONE, refused(400, "/pools/openai/inventory")]) as page:
        await_text(page, "#choose-title", "There is no pool openai")
        new_pool(server, "openai", keyTtl="never")
        page.click("#pause")
        await_state(page, "live")
        assert page.is_hidden("#choose"), "it is there now"
        page.click("#list-form button")
        await_text(page, "#list-note", "There are no keys in this pool.")
        keys = [{"value": f"v{i}", "labels": {"plan": "pro"} if i % 10 == 0 else {}} for i in range(120)]
        assert server.api("POST", "/pools/openai/keys", {"keys": keys}).status == 201
        leased = server.api("GET", "/pools/openai/keys?label=plan:pro&holder=worker-7").json["keyId"]
        cooled = server.api("GET", "/pools/openai/keys?label=plan:pro").json["keyId"]
        assert server.api("PUT", f"/pools/openai/keys/{cooled}?cooldown=10m").status == 200

        page.click("#list-form button")
        seen = []
        for text, count in [("Keys 1 to 50,", 50), ("Keys 51 to 100,", 50), ("Keys 101 to 120,", 20)]:
            await_text(page, "#list-note", text)
            assert rows(page).count() == count
            seen += listed(page)
            if count == 50:
                page.click("#list-next")
        assert len(set(seen)) == 120
        assert page.is_hidden("#list-next") and page.evaluate("document.activeElement.id") == "list-first"
        page.click("#list-first")
        await_text(page, "#list-note", "Keys 1 to 50,")
        assert page.is_hidden("#list-first") and page.evaluate("document.activeElement.id") == "list-next"

        page.select_option("#list-state", "blocked")
        await_true(page, "document.querySelectorAll('#list tbody tr').length === 1")
        [row] = page.locator("#list tbody tr").all_inner_texts()
        assert all(part in row for part in [leased, "blocked", "worker-7", "plan:pro"]), row
        until(lambda: page.locator("#list time").count() == 2, "since and until")
        page.select_option("#list-state", "cooling")
        await_true(page, "id => document.querySelector('#list tbody code').textContent === id", cooled)
        page.select_option("#list-state", "")
        page.fill("#list-label", "plan:pro")
        page.press("#list-label", "Enter")
        await_text(page, "#list-note", "12 keys,")
        page.fill("#list-label", "nonsense")
        page.click("#list-form button")
        await_text(page, "#list-note", "label must be a name, a colon and a value")
        assert rows(page).count() == 0

        page.fill("#list-label", "plan:pro")
        page.select_option("#list-state", "blocked")
        page.click(f"[aria-label='Look up {leased}']")
        page.wait_for_selector("#key:not([hidden])")
        assert page.inner_text("[data-fact=Holder] span") == "worker-7"
        assert page.inner_text("[data-fact='Key expires at'] span") == "never"
        assert page.evaluate("document.activeElement.id") == "look-title"


def test_a_rare_key_is_found_in_a_large_pool(browser, binary):
    """The server looks at some thousand keys for each answer: most of these are empty."""
    with Server(binary) as server, opened(browser, server) as page:
        await_state(page, "live")
        server.create(100_000)
        leased, _ = server.lease()
        asked, found = [], []
        page.on("request", lambda request: "/inventory?" in request.url and asked.append(request.url))
        page.select_option("#list-state", "blocked")
        ends = ["No more such keys.", "these are the last ones", "1 key,"]
        for _ in range(20):
            note = until(lambda: (text := page.inner_text("#list-note")) not in ("", "Asking …") and text, "a page")
            found += listed(page)
            if any(end in note for end in ends):
                break
            assert note.startswith(("No such keys so far.", "Key 1,")), note
            before = len(asked)
            page.click("#list-next")
            until(lambda: len(asked) > before, "the next page")
        assert found == [leased] and page.is_hidden("#list-next")


def test_values_are_imported_by_paste_and_shown_nowhere(browser, binary):
    with Server(binary) as server, opened(browser, server, path="/dashboard?pool=own", maybe=[GONE],
                                          complaints=[refused(422, "/pools/own/keys")]) as page:
        new_pool(server, "own", keyTtl="never")
        page.reload()
        await_state(page, "live")
        import_text(page, f"  {VALUES[0]}\t\r\n\n{NASTY}\n   \n{VALUES[2]}", "plan:pro, region:eu:1,")
        await_text(page, "#import-note", "3 keys are new.")
        assert page.input_value("#values") == "" and page.evaluate("document.activeElement.id") == "values"
        keys = keys_of(server, "own")
        assert [key["labels"] for key in keys] == 3 * [{"plan": "pro", "region": "eu:1"}]
        import_text(page, f"{VALUES[0]}\nsk-import-four")
        await_text(page, "#import-note", "1 key is new, and 1 was in the pool already.")
        page.click("#list-form button")
        await_true(page, "document.querySelectorAll('#list tbody tr').length === 4")
        # In no text, attribute or field, nor anywhere that outlives the page.
        everything = page.evaluate("""() => [document.documentElement.outerHTML, ...[...document.querySelectorAll('input, textarea')].map(one => one.value),
            JSON.stringify({...localStorage, ...sessionStorage}), document.cookie, location.href, JSON.stringify(history.state)].join('\\n')""")
        for value in [*VALUES, "sk-import-four", "onerror"]:
            assert value not in everything, value
        assert page.evaluate("window.hit === undefined && document.images.length === 0")
        given = {server.api("GET", "/pools/own/keys").json["value"] for _ in range(4)}
        assert given == {*VALUES, "sk-import-four"}

        # A refusal names the line, and what was not imported stays in the field.
        text = f"sk-five\n\n{'x' * 4097}\nsk-six"
        import_text(page, text)
        note = await_text(page, "#import-note", "Line 3 is invalid: its value must have 1 to 4096 characters.")
        assert "Nothing was imported." in note and page.input_value("#values") == text
        for labels, title in [("plan", "A label is malformed"), (":pro", "A label is malformed"), ("a:1,a:2", "A label is given twice"),
                              (f"{'x' * 64}:1", "A label is malformed"), (",".join(f"l{i}:1" for i in range(9)), "There are too many labels")]:
            import_text(page, "sk-five", labels)
            await_text(page, "#import-note", title)
        import_text(page, " \n ")
        await_text(page, "#import-note", "There is no value")
        assert len(keys_of(server, "own")) == 4


def test_a_long_text_is_imported_in_several_requests(browser, binary):
    with Server(binary) as server, opened(browser, server, complaints=[refused(422, "/keys")]) as page:
        await_state(page, "live")
        sizes = []
        page.on("request", lambda request: request.method == "POST" and sizes.append(len(request.post_data_buffer)))
        # Few, but long: two bodies of at most 4 MiB, of which the second is refused.
        lines = [f"{i:04}" + "é" * 2000 for i in range(1200)] + ["x" * 5000]
        page.evaluate("text => { document.querySelector('#values').value = text; }", "\n".join(lines))
        page.click("#import-form button")
        note = await_text(page, "#import-note", "Line 1,201 is invalid")
        first = server.stats()["keys"]
        assert 900 < first < 1200 and f"Before it, {first:,} keys were imported: {first:,} keys are new." in note, note
        assert len(sizes) == 2 and max(sizes) <= 4 << 20, sizes
        # Many, but short.
        lines = [f"v{i}" for i in range(100_001)]
        page.evaluate("text => { document.querySelector('#values').value = text; }", "\n".join(lines))
        page.click("#import-form button")
        await_text(page, "#import-note", "100,001 keys are new.")
        assert len(sizes) == 4 and server.stats()["keys"] == first + 100_001


def test_leases_are_taken_back_after_a_question(browser, binary):
    with Server(binary) as server, opened(browser, server, path="/dashboard?pool=openai", maybe=[GONE]) as page:
        new_pool(server, "openai", 3)
        page.reload()
        await_state(page, "live")
        for _ in range(2):
            assert server.api("GET", "/pools/openai/keys?holder=a%26b=c").status == 200
        page.fill("#holder", "a&b=c")
        page.press("#holder", "Enter")
        assert page.evaluate("document.activeElement.id") == "take-no"
        assert page.inner_text("#take-confirm-text") == "End all leases of a&b=c in the pool openai?"
        page.click("#take-no")
        assert page.is_hidden("#take-confirm") and server.api("GET", "/pools/openai/stats").json["blocked"] == 2
        page.press("#holder", "Enter")
        # Another name in the field is not the one that was asked about.
        page.fill("#holder", "somebody-else")
        page.click("#take-yes")
        await_text(page, "#take-note", "Ended 2 leases of a&b=c.")
        assert server.api("GET", "/pools/openai/stats").json["blocked"] == 0
        assert page.evaluate("document.activeElement.id") == "holder"
        page.press("#holder", "Enter")
        page.click("#take-yes")
        await_text(page, "#take-note", "somebody-else holds no key of this pool")


def test_a_deleted_pool_is_told_of_and_another_one_offered(browser, binary):
    complaints = [GONE, refused(404, "/pools/openai/keys")]
    with Server(binary) as server, opened(browser, server, complaints=complaints, path="/dashboard?pool=openai") as page:
        await_text(page, "#state", "Stopped: No such pool")
        new_pool(server, "openai", 4)
        page.reload()
        await_number(page, "keys", 4)
        server.create(1)
        assert server.api("DELETE", "/pools/openai?keys=delete").status == 200
        await_text(page, "#choose-title", "There is no pool openai")
        assert page.inner_text("#state") == "Stopped: No such pool"
        page.click("#create-form button")
        await_text(page, "#create-note", "No such pool")
        assert page.input_value("#choose-name") == "default"
        page.click("#choose-form button")
        await_number(page, "keys", 1)
        assert page.is_hidden("#choose") and chosen(page) == "default" and page.inner_text("#create-note") == ""
        # A name that can be none, and that must not lead to another path.
        for name in ["..%2F..%2Fkeys", "%3Cimg%20src=x%20onerror=window.hit=1%3E"]:
            page.goto(f"{server.url}/dashboard?pool={name}")
            await_text(page, "#choose-title", "The address of this page names no pool")
            assert page.evaluate("window.hit === undefined && document.images.length === 0")


def test_a_token_for_some_pools_sees_these(browser, binary):
    complaints = [refused(401, "/dashboard/events"), refused(403, "/dashboard/events"), refused(403, "/pools")]
    with tempfile.NamedTemporaryFile("w") as file:
        write_tokens(file, pools="openai", admin=TOKENS["admin"])
        with Server(binary, "--auth-tokens", file.name) as server, opened(browser, server, complaints=complaints) as page:
            assert server.api("PUT", "/pools/openai", {}, token=TOKENS["admin"]).status == 201
            await_text(page, "#state", "Stopped: A token is needed")
            use(page, TOKENS["admin"])
            await_text(page, "#choose", "The token that was sent is not for the pool default.")
            page.fill("#choose-name", "openai")
            page.press("#choose-name", "Enter")
            await_state(page, "live")
            await_text(page, "#pool-note", "The token is for some pools only")
            assert page.is_hidden("#choose") and page.locator("#pool option").all_inner_texts() == ["openai"]
            page.click("#create-form button")
            await_text(page, "#create-note", "Created 1 key.")
            await_number(page, "keys", 1)
            # Nothing of the server, which has other pools.
            assert page.is_hidden("[data-stat=requests]") and page.is_hidden("[data-chart=latency]") and page.is_visible("[data-chart=keys]")
            page.click("#list-form button")
            await_text(page, "#list-note", "1 key,")
            import_text(page, "sk-1")
            await_text(page, "#import-note", "1 key is new.")
            page.reload()
            await_state(page, "live")
            assert chosen(page) == "openai"
            await_number(page, "keys", 2)
