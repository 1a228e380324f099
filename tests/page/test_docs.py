"""The page that shows the API and tries it out."""

import contextlib
import http.client
import http.server
import threading
import types

from browser import opened, until
from server import Server


def test_docs_show_the_api_and_try_it_out(browser, binary):
    with Server(binary) as server:
        for scheme in ("light", "dark"):
            with opened(browser, server, path="/docs/", color_scheme=scheme) as page:
                page.get_by_text("Leases random free keys from a pool").wait_for()
                assert page.locator("rapi-doc").get_attribute("theme") == scheme
                other = {"light": "dark", "dark": "light"}[scheme]
                page.emulate_media(color_scheme=other)
                until(lambda: page.locator("rapi-doc").get_attribute("theme") == other, "the page follows the system")
                created = server.stats()["totals"]["created"]
                # The request that the description has as its example.
                assert '"keyIds"' in answer(page, "Creates or imports keys", 201)
                assert server.stats()["totals"]["created"] == created + 3
                assert '"etag"' in answer(page, "Leases a random free key", 200)
                assert '"leaseTimeouts"' in answer(page, "Shows the counts of the pool", 200)
                # The rest is opened too: none of it may violate the page's policy.
                page.get_by_text("Expand all").click()
                page.get_by_text("Deletes a key").first.wait_for()


def test_docs_work_below_the_path_of_a_proxy(browser, binary):
    with Server(binary) as server, proxy(server, "/tools/keys") as behind:
        for path in ("/docs", "/docs/"):
            with opened(browser, behind, path=path) as page:
                page.get_by_text("Leases random free keys from a pool").wait_for()
                assert page.url == f"{behind.url}/docs/"
                created = server.stats()["totals"]["created"]
                assert '"keyIds"' in answer(page, "Creates or imports keys", 201)
                assert server.stats()["totals"]["created"] == created + 3


@contextlib.contextmanager
def proxy(server, prefix):
    """Passes what is asked for below `prefix` on to the server, and knows no other path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def pass_on(self):
            if not self.path.startswith(prefix + "/"):
                self.send_error(404, f"{self.path} is not below {prefix}")
                return
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            connection.request(self.command, self.path.removeprefix(prefix), body, dict(self.headers))
            answer = connection.getresponse()
            text = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)
            connection.close()

        do_GET = do_POST = pass_on

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield types.SimpleNamespace(url=f"http://127.0.0.1:{listening.server_port}{prefix}")
        finally:
            listening.shutdown()
            thread.join()


def answer(page, summary, status):
    """Opens an operation, sends its request, and returns the text of the answer."""
    page.get_by_text(summary, exact=True).first.click()
    page.get_by_role("button", name="TRY", exact=True).click()
    page.get_by_text(f":{status}").wait_for()
    text = "\n".join(page.locator("pre").all_inner_texts())
    page.get_by_text(summary, exact=True).first.click()
    return text
