"""The tests of the dashboard page. See `run`."""

import re
import sys
import time

from playwright.sync_api import sync_playwright

import test_auth
import test_docs
import test_keys
import test_looks
import test_numbers
import test_pools
import test_stream
from browser import launch

MODULES = [test_numbers, test_keys, test_pools, test_auth, test_docs, test_stream, test_looks]


def tests(parts):
    for module in MODULES:
        for name, test in list(vars(module).items()):
            if re.match("test_.*", name) and callable(test) and any(part in name for part in parts):
                yield name.removeprefix("test_").replace("_", " "), test


def main(binary, *options):
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if options[:1] == ("--screenshots",):
            test_looks.take_pictures(browser, binary, options[1])
            return
        count, start = 0, time.monotonic()
        for name, test in tests(options or [""]):
            began = time.monotonic()
            # The first failure ends the run: its traceback shows what is wrong.
            print(f"{name} … ", end="", flush=True)
            test(browser, binary)
            print(f"{time.monotonic() - began:.1f} s")
            count += 1
        assert count, "no such test"
        print(f"{count} tests of the page passed in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
