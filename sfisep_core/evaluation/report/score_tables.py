"""Content of the report's tables: scores, and differences between the first and other systems."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Difference, Summary

Value = Summary | Difference | None
"""A cell; None if there is no score."""


@dataclass(frozen=True)
class ScoreTable:
    """One metric, by rate and source.

    Attributes:
        title: Name and unit of the metric.
        systems: System of each column of values.
        groups: Rows by sampling frequency in Hz: the source, and a value per system. Rows
            without any value are left out.
    """

    title: str
    systems: tuple[str, ...]
    groups: tuple[tuple[int, list[tuple[str, list[Value]]]], ...]


def score_table(study: Study, *, metric: str) -> ScoreTable:
    """Gather the scores of all systems."""

    def values(key: ScoreKey) -> list[Value]:
        return [study.summaries.get(key._replace(system=system)) for system in study.systems]

    return _by_rate_and_source(study, metric, study.systems, values)


def difference_table(study: Study, *, metric: str) -> ScoreTable:
    """Gather the differences of the first system and each other one."""
    first, *others = study.systems

    def values(key: ScoreKey) -> list[Value]:
        of_first = key._replace(system=first)
        return [study.differences.get((of_first, other)) for other in others]

    return _by_rate_and_source(study, metric, others, values)


def _by_rate_and_source(
    study: Study, metric: str, systems: Sequence[str], values: Callable[[ScoreKey], list[Value]]
) -> ScoreTable:
    groups = []
    for rate in study.sample_rates:
        cells = {
            source: values(ScoreKey(rate, "", source, metric))
            for source in (*study.sources, ALL_SOURCES)
        }
        rows = [
            (source, row)
            for source, row in cells.items()
            if any(value and value.tracks for value in row)
        ]
        if rows:
            groups.append((rate, rows))
    definition = DEFINITIONS[metric]
    return ScoreTable(f"{definition.label} ({definition.unit})", tuple(systems), tuple(groups))
