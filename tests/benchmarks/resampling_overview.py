"""The first page of a study of methods: what was found, one figure, one table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey
from sfisep_core.evaluation.systems import MIXTURE
from tests.benchmarks.resampling_page import (
    NATIVE,
    Group,
    improvement,
    kilohertz,
    make_details,
    signed,
    table,
)

Span = tuple[float, float]
"""Lowest and highest difference between `native` and another method over rates, in dB."""

# Of the table, where they were scored: the lowest and the highest, and what recordings have most.
SHOWN_RATES = (8000, 16000, 32000, 44100, 48000)


def write_pages(
    groups: Sequence[Group], path: Path, *, title: str, program: str, option: str = ""
) -> None:
    """Write the page and, beside it, the page of all tables; for arguments see `make_details`."""
    details = path.with_name(f"{path.stem}-details.md")
    details.write_text(
        make_details(groups, title=title, program=program, option=option), encoding="utf-8"
    )
    methods = _methods(groups)
    text = make_overview(
        title=title,
        program=program,
        model=groups[0].study.model,
        spans=[_spans(group, methods) for group in groups],
        figure=groups[0].figure,
        about=groups[0].study.data,
        methods=methods,
        rows=[row for group in groups for row in _rows(group, methods)],
        name=path.stem,
    )
    path.write_text(text, encoding="utf-8")


def make_overview(
    *,
    title: str,
    program: str,
    model: str,
    spans: Sequence[Mapping[str, Span]],
    figure: str,
    about: str,
    methods: Sequence[str],
    rows: Iterable[Sequence[str]],
    name: str,
) -> str:
    """Write the first page.

    Args:
        title: Of the page.
        program: Module of `tests.benchmarks` that writes it.
        model: Its name.
        spans: For each kind of music and each method but `native`.
        figure: File beside the page.
        about: The music of the figure.
        methods: Columns of the table after music and rate.
        rows: Of the table.
        name: Of the page's file, without suffix.
    """
    return f"""\
# {title}

<!-- Written by tests/benchmarks/{program}.py: change that program, not this page. -->

**{headline(model, spans)}**

![Scores against sampling frequency]({figure})

*SI-SDR up to 4 kHz, the band that all rates have: median over tracks, and its 95 % interval.
{about}*

SI-SDR improvement in dB, mean over stems and tracks, by [method](../explanation/methods.md):
{table(["music", "kHz", *methods], rows)}
[All tables]({name}-details.md) has every rate and stem, intervals and tests, and says how all of it
was measured; [a CSV file]({name}.csv) has the numbers.
"""


def headline(model: str, spans: Sequence[Mapping[str, Span]]) -> str:
    """Say what was found in one sentence."""
    low, high = _over_all(spans, "resample")
    _, worst = _over_all(spans, "direct")
    return (
        f"`{model}` at each recording's own rate (`native`) differs by {signed(low)} to "
        f"{signed(high)} dB of SI-SDR from the same model behind a resampler, over all rates and "
        f"music; where the rate is ignored (`direct`), up to {worst:.1f} dB are lost."
    )


def _over_all(spans: Sequence[Mapping[str, Span]], method: str) -> Span:
    of_method = [of_group[method] for of_group in spans if method in of_group]
    lows, highs = zip(*of_method, strict=True) if of_method else ((math.nan,), (math.nan,))
    return min(lows), max(highs)


def _methods(groups: Sequence[Group]) -> list[str]:
    """Return the methods that all music was separated with."""
    named = [group.study.systems for group in groups]
    return [
        name
        for name in named[0]
        if name != MIXTURE
        and all(name in systems for systems in named)
        and (name == NATIVE or any(name == other for _, other in groups[0].study.differences))
    ]


def _spans(group: Group, methods: Sequence[str]) -> dict[str, Span]:
    study, spans = group.study, {}
    for name in methods:
        means = [
            study.differences[key, name].mean
            for rate in study.sample_rates
            if rate != study.native_rate
            and (key := ScoreKey(rate, NATIVE, ALL_SOURCES, "si_sdr"), name) in study.differences
        ]
        if means:
            spans[name] = (min(means), max(means))
    return spans


def _rows(group: Group, methods: Sequence[str]) -> list[list[str]]:
    study = group.study
    rates = [rate for rate in study.sample_rates if rate in SHOWN_RATES]
    return [
        [
            group.name,
            kilohertz(rate),
            *(signed(improvement(study, rate, name, ALL_SOURCES).mean) for name in methods),
        ]
        for rate in rates or study.sample_rates
    ]
