"""The comparison as a picture (SVG): CPU of a request, and requests a second when pipelined."""

from lib import compare

WIDTH, BAR, GAP, LABEL, HEAD = 860, 20, 8, 270, 52
OWN = "#2563eb"
RIVAL = "#94a3b8"


def write(path, results):
    panels = [
        ("CPU time per request, µs (less is better)", "plain", "cpu_us", "{:.1f}"),
        ("Requests per second on one core, pipelined 16 deep (more is better)", "pipelined", "per_second", "{:,.0f}"),
    ]
    parts, y = [], 0
    for title, mode, figure, form in panels:
        bars = [(name, compare.median(results, name, mode, figure)) for name in results]
        bars = [(name, value) for name, value in bars if value is not None]
        parts.append(f'<text x="12" y="{y + 30}" class="title">{title}</text>')
        longest = max(value for _, value in bars)
        for i, (name, value) in enumerate(bars):
            top = y + HEAD + i * (BAR + GAP)
            length = value / longest * (WIDTH - LABEL - 110)
            color = OWN if name.startswith(("GET", "PUT")) else RIVAL
            parts.append(f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{name}</text>')
            parts.append(f'<rect x="{LABEL}" y="{top}" width="{length:.0f}" height="{BAR}" rx="3" fill="{color}"/>')
            parts.append(f'<text x="{LABEL + length + 8:.0f}" y="{top + 15}">{form.format(value)}</text>')
        y += HEAD + len(bars) * (BAR + GAP) + 16
    style = "text{font:13px sans-serif;fill:#1f2937}.title{font-weight:600;font-size:15px}"
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
