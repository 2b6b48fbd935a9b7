import re

import pytest

from sfisep_core.evaluation.report.markup import inline_svg, kilohertz, number, table
from sfisep_core.evaluation.report.score_tables import difference_cell, score_cell
from sfisep_core.evaluation.summary import compare, summarise

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [
        (1.234, False, "1.23"),
        (-1.236, False, "\N{MINUS SIGN}1.24"),
        (1.234, True, "+1.23"),
        (NAN, False, "\N{EN DASH}"),
        (NAN, True, "\N{EN DASH}"),
    ],
)
def test_numbers(value: float, signed: bool, expected: str) -> None:
    assert number(value, signed=signed) == expected


def test_kilohertz() -> None:
    assert [kilohertz(rate) for rate in (8000, 11025, 44100)] == ["8", "11.025", "44.1"]


def test_rows_share_what_they_have_in_common() -> None:
    text = table(
        ["kHz", "source", "<a>"], [["8", "x", "1"], ["8", "y", "<b>2</b>"], ["16", "&", "3"]]
    )
    assert "&lt;a&gt;" in text
    assert re.findall(r'rowspan="(\d)">(\d+)<', text) == [("2", "8"), ("1", "16")]
    assert re.findall(r"<td>(.*?)</td>", text) == ["1", "<b>2</b>", "3"]
    assert '<th scope="row">&amp;</th>' in text


def test_drawing_becomes_part_of_the_page() -> None:
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "http://www.w3.org/x">'
        '<svg xmlns:xlink="http://x" width="9pt" viewBox="0 0 9 9" xmlns="http://y">'
        "<metadata>http://z</metadata><style>*{}</style>"
        '<g id="a" style="fill: #ffffff; stroke: #262626" clip-path="url(#b)">'
        '<use xlink:href="#a"/><image xlink:href="data:image/png;base64,AA"/></g></svg>'
    )
    assert inline_svg(svg, name="n", label='"what"') == (
        '<svg viewBox="0 0 9 9" role="img" aria-label="&quot;what&quot;">'
        '<g id="n-a" style="fill: none; stroke: currentColor" clip-path="url(#n-b)">'
        '<use href="#n-a"/><image href="data:image/png;base64,AA"/></g></svg>'
    )


def test_score_cells() -> None:
    assert score_cell(None) == score_cell(summarise([NAN])) == "\N{EN DASH}"
    assert score_cell(summarise([2.0])) == "2.00<small>1 track</small>"
    cell = score_cell(summarise([2.0, 2.0, NAN]))
    assert cell == "2.00 [2.00, 2.00]<small>mean 2.00, 2 tracks</small>"


def test_difference_cells() -> None:
    assert difference_cell(None) == "\N{EN DASH}"
    assert difference_cell(compare({}, {"a": 1.0})) == "\N{EN DASH}"
    one = difference_cell(compare({"a": 2.0}, {"a": 1.5}))
    assert one == "+0.50<small>1 track</small>"
    none = difference_cell(compare({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}))
    assert none == "+0.00 [+0.00, +0.00]<small>ahead in 0/2, p \N{EN DASH}</small>"
    # Six differences of one sign: two-sided p of the signed-rank test is 2 / 2^6.
    first = {str(n): float(n) for n in range(6)}
    six = difference_cell(
        compare(first, {key: value + 1 + value / 10 for key, value in first.items()})
    )
    assert six.startswith("<strong>\N{MINUS SIGN}1.25</strong> [\N{MINUS SIGN}1.")
    assert six.endswith("<small>ahead in 0/6, p 0.031</small>")
    many = {str(n): float(n) for n in range(20)}
    cell = difference_cell(compare(many, dict.fromkeys(many, -1.0)))
    assert cell.endswith("ahead in 20/20, p &lt; 0.0001</small>")
