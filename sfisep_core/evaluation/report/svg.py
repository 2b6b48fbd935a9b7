"""Embed drawings of matplotlib in a page."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

PAPER = "#ffffff"
INK = "#262626"
BLANK = "#fefefe"
"""Colours in drawings that are replaced by those of the page, which may be dark."""


def inline_svg(svg: str, *, name: str, label: str) -> "Markup":
    """Convert a drawing to an inline element of a page.

    Args:
        svg: SVG of matplotlib, with `INK` on `PAPER`, and `BLANK` for empty areas.
        name: Name of the drawing, unique in the page, because browsers resolve references to parts
            of a drawing in the whole page.
        label: Alternative text.

    Returns:
        The element, in the colours of the page.
    """
    from markupsafe import Markup, escape

    root = re.search(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', svg)
    assert root is not None
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[root.end() :], flags=re.S)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'(xlink:)?href="(#?)', lambda m: f'href="{m[2] and f"#{name}-"}', inner)
    inner = inner.replace("url(#", f"url(#{name}-")
    inner = inner.replace(f"fill: {PAPER}", "fill: none").replace(BLANK, "var(--blank)")
    inner = inner.replace(INK, "currentColor")
    return Markup(  # noqa: S704  # drawn by matplotlib, which escapes the texts in it
        f'<svg {root[1]} role="img" aria-label="{escape(label)}">{inner}'
    )
