"""Small pieces of HTML: numbers, tables, drawings, and the frame of a page."""

import html
import math
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

MISSING = "\N{EN DASH}"
PAPER = "#ffffff"
INK = "#262626"
BLANK = "#fefefe"
"""Colours of drawings that give way to those of the page, which may be dark."""

# Nothing is loaded from elsewhere, whatever a name may contain.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; " + (
    "script-src 'unsafe-inline'"
)

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2328; --soft: #59636e;
  --line: #d1d9e0; --raised: #f6f8fa; --blank: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --ink: #dfe3e8; --soft: #9aa4af;
    --line: #363c44; --raised: #1d2126;
    --blank: #3a4048; }
}
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 78rem; margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; overflow-wrap: anywhere; }
p, dl, ul { max-width: 48rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .3rem 1.2rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { display: block; } dd { margin-bottom: .6rem; } }
small, figcaption { color: var(--soft); font-size: .85rem; }
figure { margin: 1rem 0; } figcaption { max-width: 48rem; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; }
.single { max-width: 34rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
.tall { max-height: 42rem; overflow-y: auto; } .tall thead { position: sticky; top: 0; }
.wide { min-width: 52rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; vertical-align: top; white-space: nowrap; }
tbody { border-bottom: 1px solid var(--line); }
td small { display: block; }
thead th { background: var(--raised); } thead th:nth-child(-n+2) { text-align: left; }
tbody th { text-align: left; font-weight: 500; }
.listening tr { border-bottom: 1px solid var(--line); }
.listening th, .listening td { text-align: left; padding: .4rem; }
.listening tbody th { position: sticky; left: 0; z-index: 1; background: var(--page); }
audio { display: block; width: 12rem; height: 2.2rem; }
.spectrogram { display: block; width: 12rem; height: 5.5rem; margin-top: .25rem; }
summary { cursor: pointer; padding: .2rem 0; } summary:hover { color: var(--soft); }
select { font: inherit; padding: .15rem .4rem; }
@media print {
  body { max-width: none; font-size: 11px; } audio, .choice { display: none; }
  figure, tr { break-inside: avoid; } figure[hidden] { display: block; }
  .scroll { overflow: visible; max-height: none; } .wide { min-width: 0; }
  h2, h3 { break-after: avoid; } .spectrogram { width: 5rem; height: 2.5rem; }
}
"""

# Choosing a score shows its figure; a player that starts stops the others.
_SCRIPT = """
const choice = document.getElementById('score');
function showChosen() {
  for (const figure of document.querySelectorAll('figure[data-score]'))
    figure.hidden = figure.dataset.score !== choice.value;
}
if (choice) { choice.addEventListener('change', showChosen); showChosen(); }
document.addEventListener('play', event => {
  for (const other of document.querySelectorAll('audio'))
    if (other !== event.target) other.pause();
}, true);
"""


def document(*, title: str, body: str) -> str:
    """Give a page.

    Args:
        title: As text.
        body: HTML.

    Returns:
        HTML that loads nothing, with style and script inside.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f'<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{html.escape(title)}</h1>\n{body}\n<script>{_SCRIPT}</script>\n"
        "</body>\n</html>\n"
    )


def number(value: float, *, signed: bool = False) -> str:
    """Write a number with two decimals; what does not exist is a dash."""
    if math.isnan(value):
        return MISSING
    return (f"{value:+.2f}" if signed else f"{value:.2f}").replace("-", "\N{MINUS SIGN}")


def kilohertz(sample_rate: float) -> str:
    """Write a frequency that is given in Hz, without the unit."""
    return f"{sample_rate / 1000:g}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table.

    Args:
        heads: Of the columns, as text.
        rows: Their cells. The first two are text and say what a row is; neighbours with the same
            first one share it. The others are HTML.

    Returns:
        HTML; what is too wide or too long scrolls.
    """
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in heads)
    bodies = "\n".join(
        f"<tbody>{_group(first, list(group))}</tbody>"
        for first, group in groupby(rows, key=lambda row: row[0])
    )
    return (
        f'<div class="scroll tall"><table><thead><tr>{head}</tr></thead>\n{bodies}</table></div>\n'
    )


def _group(first: str, rows: Sequence[Sequence[str]]) -> str:
    lead = f'<th scope="rowgroup" rowspan="{len(rows)}">{html.escape(first)}</th>'
    return "\n".join(
        f'<tr>{"" if place else lead}<th scope="row">{html.escape(row[1])}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[2:])
        + "</tr>"
        for place, row in enumerate(rows)
    )


def inline_svg(svg: str, *, name: str, label: str) -> str:
    """Make a drawing part of a page.

    Args:
        svg: What matplotlib wrote, with `INK` on `PAPER`, and `BLANK` where there is nothing.
        name: Of the drawing, different from that of every other one in the page: a browser looks
            for parts of a drawing in the whole page, also where it is hidden.
        label: What it shows, as text.

    Returns:
        The element, in the colours of the page.
    """
    root = re.search(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', svg)
    assert root is not None
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[root.end() :], flags=re.S)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'(xlink:)?href="(#?)', lambda m: f'href="{m[2] and f"#{name}-"}', inner)
    inner = inner.replace("url(#", f"url(#{name}-")
    inner = inner.replace(f"fill: {PAPER}", "fill: none").replace(BLANK, "var(--blank)")
    inner = inner.replace(INK, "currentColor")
    return f'<svg {root[1]} role="img" aria-label="{html.escape(label)}">{inner}'
