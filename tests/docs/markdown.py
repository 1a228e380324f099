"""What the Markdown of the project says: its code blocks, its headings and its links."""

import re
import string
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Command:
    """A command with the output that is shown below it, and the lines of the file where that stands."""

    text: str
    output: list[str] = field(default_factory=list)
    begin: int = 0
    end: int = 0


@dataclass
class Block:
    """A fenced code block: `line` is that of its first line of content, from 0."""

    language: str
    line: int
    lines: list[str]

    def commands(self):
        """The commands of a `console` block (lines behind `$ `) or of an `sh` block (all lines).

        A command goes on in the next line if its line ends in a backslash.
        """
        commands, is_continued = [], False
        for number, line in enumerate(self.lines, self.line):
            is_command = self.language == "sh" or line.startswith("$ ")
            if is_continued:
                commands[-1].text += "\n" + line
            elif is_command:
                commands.append(Command(line.removeprefix("$ ")))
            elif commands:
                commands[-1].output.append(line)
            else:
                raise ValueError(f"line {number + 1}: a console block begins with a command, such as `$ curl …`")
            if is_continued or is_command:
                is_continued = line.endswith("\\")
                commands[-1].begin = number + 1
            commands[-1].end = number + 1
        return commands


@dataclass
class Page:
    """A Markdown file."""

    path: Path
    blocks: list[Block]
    prose: str
    anchors: set[str]

    @classmethod
    def read(cls, path, text=None):
        text = path.read_text(encoding="utf-8") if text is None else text
        blocks, prose, block, opened_by = [], [], None, None
        for number, line in enumerate(text.splitlines()):
            fence = re.match(r"\s*(`{3,}|~{3,})\s*(\w*)", line)
            if block is None and fence:
                block, opened_by = Block(fence[2], number + 1, []), fence[1]
                blocks.append(block)
            elif block is not None and fence and not fence[2] and fence[1].startswith(opened_by):
                block = None
            elif block is not None:
                block.lines.append(line)
            else:
                prose.append(line)
        if block is not None:
            raise ValueError(f"line {block.line}: the code block has no end")
        prose = "\n".join(prose)
        return cls(path, blocks, prose, anchors(prose))

    def links(self):
        """Where the file links to, pictures included, but for other sites."""
        prose = re.sub(r"`[^`]*`", "", self.prose)
        found = re.findall(r"\]\(([^)\s]+)", prose) + re.findall(r'(?:src|srcset|href)="([^"]+)"', prose)
        return [target for target in found if not re.match(r"[a-z]+:", target)]

    def named_paths(self):
        """Paths of the project in the text: in backticks, and below one of its folders."""
        return re.findall(r"`((?:src|tests|docs|deploy|loadtest|benches|examples)/[\w./-]*)`", self.prose)


def anchors(prose):
    """The anchors of the headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?)\s*$", prose, re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(c for c in text if c in "-_ " or c not in string.punctuation)
        base = kept.replace(" ", "-")
        anchor, number = base, 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found
