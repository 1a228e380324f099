"""The page of a server that wants tokens."""

import signal
import tempfile

from browser import await_state, await_text, opened, refused
from server import Server, write_tokens

TOKENS = {"client": "client-token-of-the-test", "admin": "admin-token-of-the-test", "metrics": "metrics-token-of-the-test"}


def use(page, token):
    page.fill("#token", token)
    page.click("#auth-form button")


def test_a_token_is_asked_for_and_its_role_is_respected(browser, binary):
    complaints = [refused(401, "/dashboard/events"), refused(403, "/keys"), refused(403, "/keys/[0-9a-f-]{36}")]
    with tempfile.NamedTemporaryFile("w") as file:
        write_tokens(file, **TOKENS)
        with Server(binary, "--auth-tokens", file.name) as server, opened(browser, server, complaints=complaints) as page:
            [key] = server.create(1, token=TOKENS["admin"])
            await_text(page, "#state", "Stopped: A token is needed")
            assert page.evaluate("document.activeElement.id") == "token"
            use(page, "not-the-token")
            await_text(page, "#auth-note", "does not accept this token")
            assert page.evaluate("sessionStorage.length") == 0
            use(page, TOKENS["client"])
            await_state(page, "live")
            assert page.is_hidden("#auth")
            assert page.evaluate("Object.values(sessionStorage)") == [TOKENS["client"]]
            assert page.evaluate("localStorage.length === 0 && document.cookie === ''")
            assert TOKENS["client"] not in page.content() and page.input_value("#token") == ""

            page.click("#create-form button")
            await_text(page, "#create-note", "it needs the role admin")
            page.fill("#key-id", key)
            page.press("#key-id", "Enter")
            page.click("#delete")
            page.click("#confirm-yes")
            await_text(page, "#look-note", "it needs the role admin")
            assert server.api("GET", f"/keys/{key}", token=TOKENS["client"]).status == 200

            # The token lives as long as the tab, or until it is forgotten.
            page.reload()
            await_state(page, "live")
            page.click("#forget")
            await_text(page, "#state", "Stopped: A token is needed")
            assert page.evaluate("sessionStorage.length") == 0

            use(page, TOKENS["metrics"])
            await_state(page, "live")
            page.fill("#key-id", key)
            page.press("#key-id", "Enter")
            await_text(page, "#look-note", "it needs the role client or admin")
            page.click("#forget")
            use(page, TOKENS["admin"])
            await_state(page, "live")
            page.click("#create-form button")
            await_text(page, "#create-note", "Created 1 key.")
            assert server.api("GET", "/stats", token=TOKENS["admin"]).json["keys"] == 2

            # A revoked token is refused, also to a page that is already open.
            file.truncate(0)
            file.seek(0)
            write_tokens(file, client=TOKENS["client"])
            server.process.send_signal(signal.SIGHUP)
            await_text(page, "#state", "does not accept this token")
            assert page.is_visible("#auth") and page.evaluate("sessionStorage.length") == 0
            use(page, TOKENS["client"])
            await_state(page, "live")


def test_a_token_for_other_pools_is_told_apart_from_one_of_another_role(browser, binary):
    complaints = [refused(401, "/dashboard/events"), refused(403, "/dashboard/events"), refused(403, "/keys")]
    with tempfile.NamedTemporaryFile("w") as file:
        write_tokens(file, pools="openai", admin=TOKENS["admin"])
        with Server(binary, "--auth-tokens", file.name) as server, opened(browser, server, complaints=complaints) as page:
            await_text(page, "#state", "Stopped: A token is needed")
            use(page, TOKENS["admin"])
            await_text(page, "#state", "Stopped: The pools of the token do not allow this request")
            page.click("#create-form button")
            await_text(page, "#create-note", "The token that was sent is not for the pool default.")
