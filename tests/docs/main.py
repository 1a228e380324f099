"""Checks the Markdown of the project against the server.

- Runs each command of each `console` block, and compares the output that is shown: see `compare.py`.
- Runs each command of each `sh` block, which must succeed, but for those in `NOT_RUN`. One that starts the server,
  be it `cargo run --release` or `token-orchestrator`, starts it for the commands that follow. Each file has a shell
  and a folder of its own.
- Links must lead to files and headings that exist; so must paths of the project in backticks.
- Options, routes and problems that the program has must stand where they are described.

The checker itself is tried first, on pages with faults: see `test_checker.py`.
"""

import argparse
import difflib
import json
import re
import subprocess
import sys
import time
import unittest
from pathlib import Path

import compare
import test_checker
from markdown import Page
from session import Failed, Session

ROOT = Path(__file__).resolve().parent.parent.parent
# How long lines of a log may take.
LINES_TIMEOUT_S = 10
# Beginnings of commands that are not run here, and where they are.
NOT_RUN = {
    "tests/run": "it runs this",
    ".ci/run": "it runs tests/run",
    "cargo install --locked --path .": "the program was built for this run",
    "cargo install --locked cargo-deb": "tests/deploy/package does so",
    "cargo deb --locked": "tests/deploy/package does so",
    "sudo apt install ./target/debian/": "tests/deploy/package does so",
    "sudo systemctl ": "no package is installed",
    "sudo cp -a /var/lib/": "no package is installed",
}


def pages():
    """All Markdown of the project, but for results, which are records of their day."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    names = [name for name in listed.stdout.splitlines() if not name.startswith("loadtest/results/")]
    return [ROOT / name for name in sorted(names) if (ROOT / name).exists()]


def check_links(page, root):
    """Links and paths that lead nowhere."""
    for target in page.links():
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        if not path.exists():
            yield f"links to {target}: there is no such file"
        elif anchor and (path.suffix != ".md" or anchor not in Page.read(path).anchors):
            yield f"links to {target}: the file has no such heading"
    for name in page.named_paths():
        if not any((folder / name).exists() for folder in (root, page.path.parent)):
            yield f"names {name}: there is no such file"


def differences(block, shown, actual):
    """What differs between the lines that a page shows and those that were printed, or nothing."""
    text = "\n".join(command.text for command in block.commands())
    return compare.differences("\n".join(shown), "\n".join(actual), text)


def check_blocks(page, session):
    """Runs a page's commands. Yields what is wrong, with new outputs by the lines that they replace."""
    for block in page.blocks:
        if block.language not in ("console", "sh"):
            continue
        shown, actual, outputs = [], [], []
        commands = block.commands()
        if not commands:
            yield f"line {block.line}: the {block.language} block has no command", []
        for command in commands:
            if block.language == "sh" and command.text.startswith(tuple(NOT_RUN)):
                continue
            try:
                output = session.run(command.text)
            except Failed as failure:
                yield f"line {block.line + 1}: {failure}", []
                return
            if block.language == "sh":
                continue
            prompt = f"$ {command.text}"
            shown += [prompt, *command.output]
            before = list(actual)
            actual += [prompt, *output.split("\n")] if output else [prompt]
            deadline = time.monotonic() + LINES_TIMEOUT_S
            while command.text.startswith("tail ") and differences(block, shown, actual) and time.monotonic() < deadline:
                # The server writes some lines only after its answer.
                time.sleep(0.02)
                output = session.run(command.text)
                actual = [*before, prompt, *output.split("\n")] if output else [*before, prompt]
            outputs.append((command.begin, command.end, output.split("\n") if output else []))
        why = differences(block, shown, actual)
        if why:
            lines = difflib.unified_diff(shown, actual, "as shown", "as the server answers", lineterm="")
            yield f"line {block.line + 1}: {why}\n" + "\n".join(lines), outputs


def update(path, outputs):
    """Writes outputs in place of those that are shown."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for begin, end, output in reversed(outputs):
        lines[begin:end] = output
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_complete(program, root):
    """What the program has and the documentation does not describe."""
    operations, api = (root / "docs" / name for name in ("operations.md", "api.md"))
    text = subprocess.run([program, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    rows = [line for line in operations.read_text(encoding="utf-8").splitlines() if line.startswith("| `--")]
    for option in re.split(r"\n +(?=--[a-z])", text)[1:]:
        name = re.match(r"--[\w-]+", option)[0]
        wanted = [f"`{name}`", *(f"`{variable}`" for variable in re.findall(r"\[env: (\w+)=", option))]
        wanted += [f"`{value}`" for value in re.findall(r"\[default: (.*)\]", option)]
        if not any(all(part in row for part in wanted) for row in rows):
            yield f"docs/operations.md: a row with {', '.join(wanted)} is missing"
    described = json.loads((root / "tests/openapi/openapi.json").read_text(encoding="utf-8"))
    text = api.read_text(encoding="utf-8")
    for path, methods in described["paths"].items():
        for method in methods:
            # The routes of a pool that the path names are those of the default pool.
            of_pool = path.removeprefix("/pools/{pool}")
            if of_pool != path and of_pool in described["paths"]:
                continue
            colons = re.sub(r"{([a-z]+)}", r":\1", path)
            route = f"{method.upper()} {colons}"
            if f"`{route}`" not in text:
                yield f"docs/api.md: `{route}` is missing"
    for kind in sorted(set(re.findall(r'"/problems/([\w-]+)"', json.dumps(described)))):
        if f"`{kind}`" not in text:
            yield f"docs/api.md: the problem `{kind}` is missing"


def check(paths, program, root=ROOT, updates=False):
    """What is wrong, one text each, and how many commands were run."""
    count, wrong = 0, []
    for path in paths:
        name = path.relative_to(root)
        try:
            page = Page.read(path)
            wrong += [f"{name}: {what}" for what in check_links(page, root)]
            run = [block for block in page.blocks if block.language == "console"]
            mentioned = re.findall(r"^\s*(?:`{3,}|~{3,})\s*console", path.read_text(encoding="utf-8"), re.MULTILINE)
            if len(mentioned) != len(run):
                wrong.append(f"{name}: {len(mentioned)} console blocks begin, {len(run)} would be run")
            count += sum(len(block.commands()) for block in run)
            if not any(block.language in ("console", "sh") for block in page.blocks):
                continue
            changes = []
            with Session(program, root) as session:
                for what, outputs in check_blocks(page, session):
                    wrong.append(f"{name}, {what}")
                    changes += outputs
        except (Failed, ValueError) as error:
            wrong.append(f"{name}: {error}")
            continue
        if updates and changes:
            update(path, changes)
    return wrong, count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write what the server answers in place of what differs")
    parser.add_argument("--program", metavar="FILE", type=Path, help="check this binary instead of a fresh build")
    parser.add_argument("files", nargs="*", type=Path, help="which files to check (default all)")
    options = parser.parse_args()
    program = options.program
    if program is None:
        # The program that the other tests start. `cargo build` would put another one in its place, not optimised, while they run.
        subprocess.run(["cargo", "test", "--locked", "--quiet", "--no-run", "--test", "fuzz"], cwd=ROOT, check=True)
        target = json.loads(subprocess.run(
            ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"],
            cwd=ROOT, check=True, capture_output=True,
        ).stdout)["target_directory"]
        program = Path(target) / "debug" / "token-orchestrator"
    program = program.resolve(strict=True)

    test_checker.program, test_checker.root = program, ROOT
    test_checker.check, test_checker.check_complete = check, check_complete
    tests = unittest.defaultTestLoader.loadTestsFromModule(test_checker)
    if not unittest.TextTestRunner(verbosity=0).run(tests).wasSuccessful():
        return 1
    paths = [path.resolve(strict=True) for path in options.files] or pages()
    wrong, count = check(paths, program, updates=options.update)
    if not options.files:
        wrong += check_complete(program, ROOT)
    for what in wrong:
        print(what, file=sys.stderr)
    print(f"docs: {count} commands in {len(paths)} files, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
