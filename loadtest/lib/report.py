"""Tables, and files of results."""

import json

HEAD = ["scenario", "tool", "requests/s", "p50", "p99", "p99.9", "CPU/request", "not 2xx"]


def time(micros):
    return f"{micros:.0f} µs" if micros < 10_000 else f"{micros / 1000:.1f} ms"


def row(name, tool, result):
    return [
        name,
        tool,
        f"{result['per_second']:,.0f}",
        time(result["p50_us"]),
        time(result["p99_us"]),
        time(result["p999_us"]),
        f"{result['cpu_us']:.2f} µs",
        str(result["bad_status"] + result["broken"]),
    ]


def table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    line = lambda row: "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def write(directory, name, title, about, text, raw):
    """Writes `name.md` for people and `name.json` with everything that was measured."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    (directory / f"{name}.md").write_text(f"# {title}\n\n{facts}\n\n{text}\n")
    (directory / f"{name}.json").write_text(json.dumps({"about": about, "results": raw}, indent=1) + "\n")
    print(f"\nwritten to {(directory / name).relative_to(directory.parents[2])}.md and .json")
