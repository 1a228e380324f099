"""Whether the checker would notice: pages with one fault each, beside harmless twins."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

import compare
from markdown import anchors

# Set by `main`.
program = check = check_complete = root = None

START = "```sh\ncargo run --release\n```\n"
GOOD = START + """
```console
$ KEY=$(curl -s -X POST localhost:8080/keys | cut -d '"' -f 4)
$ curl localhost:8080/keys
{"keyId":"21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f"}
$ curl localhost:8080/keys
{}
$ curl localhost:8080/keys/$KEY
{"isBlocked":true,"blockedAt":"2026-11-22T14:02:03.115Z","createdAt":"2026-11-22T14:02:02.610Z"}
```
"""


def faults(text, name="page.md"):
    """What the checker says of a page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / name
        path.write_text(text, encoding="utf-8")
        wrong, _ = check([path], program, root=path.parent)
    return wrong


class Transcripts(unittest.TestCase):
    def assert_fault(self, text, part):
        wrong = faults(text)
        self.assertTrue(any(part in what for what in wrong), wrong)

    def test_a_true_transcript_passes(self):
        self.assertEqual(faults(GOOD), [])

    def test_other_output_is_noticed(self):
        for old, new in [
            ('"isBlocked":true', '"isBlocked":false'),
            ("{}\n", ""),
            ("{}\n", "{}\n{}\n"),
            ("{}\n", '{"keyId":"21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f"}\n'),
            ("21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f", "21cdf68a-…"),
            ("2026-11-22T14:02:02.610Z", "2026-11-22 14:02:02"),
        ]:
            self.assertIn(old, GOOD)
            self.assert_fault(GOOD.replace(old, new, 1), "the output differs")

    def test_a_log_may_get_its_line_a_little_later(self):
        late = START + "```console\n$ : >log; (sleep 0.3; echo late >log) &\n$ tail -n 1 log\nlate\n```\n"
        self.assertEqual(faults(late), [])

    def test_a_deadline_that_is_off_is_noticed(self):
        self.assert_fault(GOOD.replace("14:02:02.610Z", "14:01:02.610Z"), "-60 s off")

    def test_a_command_that_fails_is_noticed(self):
        self.assert_fault("```console\n$ false\n```\n", "exit status 1")
        self.assert_fault("```sh\nfalse\n```\n", "exit status 1")
        self.assert_fault("```console\n$ exit\n```\n", "the shell has ended")
        self.assert_fault("```sh\ntoken-orchestrator --no-such-option\n```\n", "the server does not start")
        self.assert_fault(GOOD.removeprefix(START), "exit status 7")

    def test_a_block_that_would_not_be_run_is_noticed(self):
        self.assert_fault("````text\n" + GOOD.removeprefix(START) + "````\n", "console blocks begin")
        self.assert_fault("```console\n{}\n```\n", "begins with a command")
        self.assert_fault("```console\n```\n", "has no command")
        self.assert_fault("```console\n$ true\n", "has no end")

    def test_an_update_makes_it_true(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder).resolve() / "page.md"
            wrong = re.sub(r"^{.*\n", "", GOOD, flags=re.MULTILINE) + "\n```console\n$ echo a\nb\nc\n```\n\nThe end.\n"
            path.write_text(wrong, encoding="utf-8")
            self.assertEqual(len(check([path], program, root=path.parent, updates=True)[0]), 2)
            self.assertEqual(check([path], program, root=path.parent), ([], 5))
            text = path.read_text(encoding="utf-8")
        self.assertTrue(text.endswith("$ echo a\na\n```\n\nThe end.\n"), text)

    def test_what_is_not_described_is_noticed(self):
        for name, described, part in [
            ("operations.md", "`--max-keys`", "--max-keys"),
            ("operations.md", "`10000000`", "--max-keys"),
            ("operations.md", "`TOKEN_ORCHESTRATOR_SHARDS`", "--shards"),
            ("api.md", "`PUT /keys/:id/lease`", "PUT /keys/:id/lease"),
            ("api.md", "`stale-lease`", "stale-lease"),
        ]:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder)
                shutil.copytree(root / "docs", copy / "docs")
                shutil.copytree(root / "tests" / "openapi", copy / "tests" / "openapi")
                path = copy / "docs" / name
                text = path.read_text(encoding="utf-8")
                self.assertIn(described, text)
                path.write_text(text.replace(described, "`other`"), encoding="utf-8")
                wrong = list(check_complete(program, copy))
                self.assertTrue(any(part in what for what in wrong), wrong)

    def test_a_link_that_leads_nowhere_is_noticed(self):
        self.assertEqual(faults("# A `b`: c\n\n[x](#a-b-c) [y](page.md) [z](https://example.org/#none) `[v](w)`\n"), [])
        self.assert_fault("[x](missing.md)\n", "missing.md: there is no such file")
        self.assert_fault('<img src="missing.png">\n', "missing.png: there is no such file")
        self.assert_fault("# A\n\n[x](#b)\n", "#b: the file has no such heading")
        self.assert_fault("[x](page.md#b)\n", "#b: the file has no such heading")
        self.assert_fault("`tests/missing.rs`\n", "names tests/missing.rs")


class Rules(unittest.TestCase):
    ID, OTHER = "21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f", "936da01f-9abd-4d9d-80c7-02af85c822a8"

    def assert_same(self, shown, actual, commands=""):
        self.assertIsNone(compare.differences(shown, actual, commands))

    def assert_other(self, shown, actual, commands=""):
        self.assertIsNotNone(compare.differences(shown, actual, commands))

    def test_ids_may_differ_if_they_differ_everywhere(self):
        self.assert_same(f"{self.ID} {self.ID}", f"{self.OTHER} {self.OTHER}")
        self.assert_other(f"{self.ID} {self.ID}", f"{self.OTHER} {self.ID}")
        self.assert_other(f"{self.ID} {self.OTHER}", f"{self.ID} {self.ID}")
        self.assert_other(self.ID, self.OTHER, commands=f"curl localhost:8080/keys/{self.ID}")

    def test_etags_may_differ_as_ids_may(self):
        for form in ('etag: "{}"', 'x  etag "{}"  y', 'etag    "{}"', r'{{"etag":"\"{}\""}}'):
            one, nine = form.format(1), form.format(9)
            self.assert_same(f"{one}\n{one}", f"{nine}\n{nine}")
            self.assert_other(f"{one}\n{one}", f"{one}\n{nine}")
            self.assert_other(one, form.format("x"))

    def test_times_may_differ_if_distances_are_kept(self):
        date, shown = "date: Sun, 22 Nov 2026 18:19:31 GMT", "at 2026-11-22T18:20:31.246Z"
        self.assert_same(f"{date}\n{shown}", f"{date}\n{shown.replace('31.246', '33.000')}")
        self.assert_other(f"{date}\n{shown}", f"{date}\n{shown.replace('18:20', '18:21')}")
        self.assert_other(shown, shown.replace("Z", "+00:00"))
        self.assert_same("retry-after: 30", "retry-after: 28")
        self.assert_other("retry-after: 30", "retry-after: 20")

    def test_all_else_must_be_the_same(self):
        self.assert_same("a 1", "a 1")
        self.assert_other("a 1", "a 2")
        self.assert_other("a", "a\n")
        self.assertEqual(compare.plain("\x1b[1metag\x1b[0m: \"1\"\r\n\r\n{}"), 'etag: "1"\n\n{}')

    def test_anchors_are_those_of_github(self):
        self.assertEqual(anchors("# A `b` & c\n## [D](e) f\n## D f\n"), {"a-b--c", "d-f", "d-f-1"})
