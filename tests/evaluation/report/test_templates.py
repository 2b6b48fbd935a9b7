import re

import pytest

from sfisep_core.evaluation.report.score_tables import ScoreTable
from sfisep_core.evaluation.report.templating import (
    decibels,
    gain,
    kilohertz,
    probability,
    templates,
)
from sfisep_core.evaluation.summary import Difference, Summary, compare, summarise

NAN = float("nan")


def score_cell(summary: Summary | None) -> str:
    return str(templates().get_template("tables.html.j2").module.score_cell(summary))


def difference_cell(difference: Difference | None) -> str:
    return str(templates().get_template("tables.html.j2").module.difference_cell(difference))


@pytest.mark.parametrize(
    ("value", "score", "difference"),
    [
        (1.234, "1.23", "+1.23"),
        (-1.236, "\N{MINUS SIGN}1.24", "\N{MINUS SIGN}1.24"),
        (-float("inf"), "\N{MINUS SIGN}inf", "\N{MINUS SIGN}inf"),
        (NAN, "\N{EN DASH}", "\N{EN DASH}"),
    ],
)
def test_decibels(value: float, score: str, difference: str) -> None:
    assert (decibels(value), gain(value)) == (score, difference)


def test_kilohertz() -> None:
    assert [kilohertz(rate) for rate in (8000, 11025, 44100)] == ["8", "11.025", "44.1"]


def test_probabilities() -> None:
    shown = [probability(p) for p in (0.5, 0.031, 1e-4, 9e-5, NAN)]
    assert shown == ["0.5", "0.031", "0.0001", "< 0.0001", "\N{EN DASH}"]


def test_rows_of_one_rate_share_its_cell() -> None:
    one, two, three = (summarise([value]) for value in (1.0, 2.0, 3.0))
    table = ScoreTable(
        "<a>", ("<b>",), ((8000, [("x", [one]), ("y", [two])]), (16000, [("&", [three])]))
    )
    page = templates().from_string(
        '{% from "tables.html.j2" import score_table %}'
        "{% call(value) score_table(table) %}{{ value.median }}{% endcall %}"
    )
    text = page.render(table=table)
    assert "<summary>&lt;a&gt;</summary>" in text
    assert '<th scope="col">&lt;b&gt;</th>' in text
    assert re.findall(r'rowspan="(\d)">(\d+)<', text) == [("2", "8"), ("1", "16")]
    assert re.findall(r"<td>(.*?)</td>", text) == ["1.0", "2.0", "3.0"]
    assert '<th scope="row">&amp;</th>' in text


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
