"""Tables of scores, and of what the first system has ahead of the others."""

import html
import math
from collections.abc import Callable, Sequence

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report.markup import MISSING, kilohertz, number, table
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Difference, Summary

_SMALLEST_P = 1e-4
_NOTABLE_P = 0.05


def difference_table(study: Study, *, metric: str) -> str:
    """Give a table of the first system minus each other one, by rate and source."""
    first, *others = study.systems

    def cells(key: ScoreKey) -> list[str]:
        of_first = key._replace(system=first)
        return [difference_cell(study.differences.get((of_first, other))) for other in others]

    return _by_rate_and_source(study, metric, others, cells)


def score_table(study: Study, *, metric: str) -> str:
    """Give a table of all systems' scores, by rate and source."""

    def cells(key: ScoreKey) -> list[str]:
        keys = [key._replace(system=system) for system in study.systems]
        return [score_cell(study.summaries.get(of_system)) for of_system in keys]

    return _by_rate_and_source(study, metric, study.systems, cells)


def difference_cell(found: Difference | None) -> str:
    """Write the difference of two systems' scores, as HTML; bold if p is below 0.05."""
    if found is None or not found.tracks:
        return MISSING
    mean = number(found.mean, signed=True)
    if found.p < _NOTABLE_P:  # never true of a few tracks
        mean = f"<strong>{mean}</strong>"
    if found.tracks == 1:
        return f"{mean}<small>1 track</small>"
    low, high = number(found.low, signed=True), number(found.high, signed=True)
    return (
        f"{mean} [{low}, {high}]"
        f"<small>ahead in {found.ahead}/{found.tracks}, p {_probability(found.p)}</small>"
    )


def score_cell(found: Summary | None) -> str:
    """Write a system's score over tracks, as HTML."""
    if found is None or not found.tracks:
        return MISSING
    if found.tracks == 1:
        return f"{number(found.median)}<small>1 track</small>"
    return (
        f"{number(found.median)} [{number(found.low)}, {number(found.high)}]"
        f"<small>mean {number(found.mean)}, {found.tracks} tracks</small>"
    )


def _by_rate_and_source(
    study: Study,
    metric: str,
    systems: Sequence[str],
    cells: Callable[[ScoreKey], list[str]],
) -> str:
    rows = []
    for rate in study.sample_rates:
        for source in (*study.sources, ALL_SOURCES):
            row = cells(ScoreKey(rate, "", source, metric))
            if any(cell != MISSING for cell in row):
                rows.append([kilohertz(rate), source, *row])
    unit = DEFINITIONS[metric].unit
    body = table(["kHz", "source", *systems], rows)
    label = html.escape(f"{DEFINITIONS[metric].label} ({unit})")
    return f"<details><summary>{label}</summary>{body}</details>\n"


def _probability(p: float) -> str:
    if math.isnan(p):
        return MISSING
    return f"{p:.2g}" if p >= _SMALLEST_P else f"&lt; {_SMALLEST_P:g}"
