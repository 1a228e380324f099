"""Whether two outputs say the same, but for what differs from run to run.

- Key ids and their beginnings, tokens, SHA-256 hashes, `ETag`s and ports of clients: what is the same in one output must be the same in the other.
  An id that stands in a command of the block must be exactly that.
- Times: written alike, and as far from the first time of the block as shown, give or take `SLACK_S`.
- `Retry-After`: as long as shown, give or take `SLACK_S`.
- A carriage return at the end of a line, the styles of a terminal, and a line break at the very end do not count.
"""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

SLACK_S = 3

PATTERNS = {
    "id": r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b",
    "token": r"\btok_[\w-]{43}(?![\w-])",
    "hash": r"\b[0-9a-f]{64}\b",
    "etag": r'(?<=etag: )"\d+"|(?<=etag )"\d+"|(?<=etag    )"\d+"|(?<="etag":)"\\"\d+\\""',
    "generation": r'(?<="generation":)\d+',
    "beginning": r'(?<="key":")[0-9a-f]{8}(?=")',
    "port": r'(?<="peer":"127\.0\.0\.1:)\d+',
    "time": r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "date": r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\b",
    "seconds": r"(?<=retry-after: )\d+",
}
VARYING = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in PATTERNS.items()))
STYLES = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\")


def plain(output):
    """An output as a reader copies it."""
    return STYLES.sub("", output).replace("\r\n", "\n").removesuffix("\n")


def differences(shown, actual, commands=""):
    """What is wrong with the output that is shown, if anything; `commands` are those of the block."""
    literal = set(re.findall(PATTERNS["id"], commands))
    (shown_text, shown_times), (actual_text, actual_times) = (reduce(text, literal) for text in (shown, actual))
    if shown_text != actual_text:
        return "the output differs"
    for (kind, shown_s, text), (_, actual_s, other) in zip(shown_times, actual_times, strict=True):
        if abs(shown_s - actual_s) > SLACK_S:
            return f"{kind} {text} is {shown_s - actual_s:+.0f} s off: the server says {other}"
    return None


def reduce(text, literal):
    """A text with names in place of what varies, and what it says of time: kind, seconds, as written."""
    names, counts, times = {}, {}, []
    first = None

    def name(match):
        nonlocal first
        kind, written = match.lastgroup, match[0]
        if kind == "seconds":
            times.append(("Retry-After", int(written), written))
        elif kind in ("time", "date"):
            is_date = kind == "date"
            at = parsedate_to_datetime(written) if is_date else datetime.fromisoformat(written.replace("Z", "+00:00"))
            first = first or at
            times.append(("the time", (at - first).total_seconds(), written))
        elif written not in literal:
            if written not in names:
                counts[kind] = counts.get(kind, 0) + 1
                names[written] = f"<{kind} {counts[kind]}>"
            return names[written]
        else:
            return written
        return f"<{kind}>"

    return VARYING.sub(name, text), times
