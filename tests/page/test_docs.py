"""The page that shows the API and tries it out."""

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
                assert '"keyIds"' in answer(page, "Creates keys", 201)
                assert server.stats()["totals"]["created"] == created + 3
                assert '"etag"' in answer(page, "Leases a random free key", 200)
                assert '"leaseTimeouts"' in answer(page, "Shows the counts of the pool", 200)
                # The rest is opened too: none of it may violate the page's policy.
                page.get_by_text("Expand all").click()
                page.get_by_text("Deletes a key").first.wait_for()


def answer(page, summary, status):
    """Opens an operation, sends its request, and returns the text of the answer."""
    page.get_by_text(summary, exact=True).first.click()
    page.get_by_role("button", name="TRY", exact=True).click()
    page.get_by_text(f":{status}").wait_for()
    text = "\n".join(page.locator("pre").all_inner_texts())
    page.get_by_text(summary, exact=True).first.click()
    return text
