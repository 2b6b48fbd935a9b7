"""From the scores of a study of methods to its page of all tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfisep_core.evaluation.report.figures import score_figure
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Difference, compare, summarise
from sfisep_core.evaluation.systems import MIXTURE

NATIVE = "native"
UNTRAINED = "untrained"
COMMON_BAND = "si_sdr_common_band"
METRICS = ("sdr", "si_sdr", COMMON_BAND, "leakage_db", "equivariance_db")

_MARGIN_DB = 2.0


@dataclass(frozen=True)
class Group:
    """Some of the music, and what was found on it.

    Attributes:
        name: Of the group.
        study: All scores.
        figure: Name of the figure's file, beside the page.
    """

    name: str
    study: Study
    figure: str


def write_figure(study: Study, path: Path) -> None:
    """Draw SI-SDR up to 4 kHz, which all rates have in common, against sampling frequency."""
    path.write_text(score_figure(study, metric=COMMON_BAND), encoding="utf-8")


def make_details(groups: Sequence[Group], *, title: str, program: str, option: str = "") -> str:
    """Write the page of all tables in Markdown.

    Args:
        groups: The music and its scores.
        title: Of the first page.
        program: Module of `tests.benchmarks` that calls this.
        option: What its command line has beyond the folders, with a space before.
    """
    study = groups[0].study
    rates = ", ".join(kilohertz(rate) for rate in study.sample_rates)
    beside = ", beside the same network without training" if UNTRAINED in study.systems else ""
    text = f"""\
# {title}: all tables

<!-- Written by tests/benchmarks/{program}.py: change that program, not this page. -->

The model `{study.model}` at {rates} kHz,
run by every [method](../explanation/methods.md){beside}.

## How measured

```sh
python -m tests.benchmarks.{program} --music ../shared/music --work study{option}
```

- Model: `{study.model}`, SHA-256 of the file begins with `{study.model_sha256[:12]}`, trained
  at up to {kilohertz(study.native_rate)} kHz.
- References and mixture are made once for each rate from the music at 48 kHz, with soxr VHQ. Scores
  are those of [`sfisep evaluate`](../how-to/evaluate.md); of framewise SDR, the median over frames.
- The *improvement* is the SI-SDR of the estimate minus that of the mixture. A stem that is silent
  throughout a track has no SI-SDR; its *leakage* is given instead. *mean* is the mean over those
  that sound.
- The CSV file beside this page has these scores by stem, with medians and intervals.
"""
    return text + "".join(_section(group) for group in groups)


def _section(group: Group) -> str:
    study = group.study
    systems = [name for name in study.systems if name != MIXTURE]
    methods = [name for name in systems if name in study.systems[: study.systems.index(MIXTURE)]]
    columns = (*study.sources, ALL_SOURCES)
    counts = _counts(study)
    parts = [
        f"\n## {group.name.capitalize()}\n\n{study.data}\n",
        _in_short(study, methods),
        f"\n![Scores against sampling frequency]({group.figure})\n\n"
        "SI-SDR up to 4 kHz, the band that all rates have: median over tracks, and its 95 % "
        "interval (bootstrap).\n",
        "\n### SI-SDR improvement (dB)\n\nMean over tracks; in brackets: tracks in which the stem "
        "sounds.\n",
        table(
            ["rate", "system", *(f"{name} ({counts[name]})" for name in columns)],
            (
                [kilohertz(rate), system, *(_improvement(study, rate, system, c) for c in columns)]
                for rate in study.sample_rates
                for system in systems
            ),
        ),
        _beaten(study),
        "\n### SI-SDR improvement up to 4 kHz (dB)\n\nMean over tracks, of `native`: in the band "
        "that all rates have, the same music is asked for at every rate.\n",
        table(
            ["rate", *columns],
            (
                [
                    kilohertz(rate),
                    *(_improvement(study, rate, NATIVE, c, COMMON_BAND) for c in columns),
                ]
                for rate in study.sample_rates
            ),
        ),
    ]
    for metric, title in (
        ("si_sdr", "SI-SDR"),
        (COMMON_BAND, "SI-SDR up to 4 kHz"),
        ("sdr", "SDR"),
    ):
        parts += [
            f"\n### `native` minus the other methods, {title} (dB)\n\nMean over stems and tracks "
            "of the paired differences [95 % interval], tracks in which `native` is ahead, p of "
            "Wilcoxon's signed-rank test (not corrected for the number of comparisons).\n",
            table(
                ["rate", *(name for name in methods if name != NATIVE)],
                (
                    [kilohertz(rate), *_differences(study, rate, methods, metric)]
                    for rate in study.sample_rates
                    if rate != study.native_rate
                ),
            ),
        ]
    parts += [
        "\n### Equivariance error (dB)\n\nHow far the stems depend on the rate: energy of their "
        "difference from those made at the native rate, relative to these, up to 0.45 of the lower "
        "rate. Median over tracks; less is better.\n",
        table(
            ["rate", *methods],
            (
                [
                    kilohertz(rate),
                    *(
                        _median(study, rate, name, ALL_SOURCES, "equivariance_db")
                        for name in methods
                    ),
                ]
                for rate in study.sample_rates
                if rate != study.native_rate
            ),
        ),
        "\n### Leakage (dB)\n\nLevel of the estimate relative to the mixture in tracks in which "
        "the stem is silent, of `native`: median, highest (number of tracks).\n",
        table(
            ["rate", *study.sources],
            (
                [
                    kilohertz(rate),
                    *(_leakage(study, rate, name) for name in study.sources),
                ]
                for rate in study.sample_rates
            ),
        ),
    ]
    return "".join(parts)


def improvement(
    study: Study, rate: int, system: str, source: str, metric: str = "si_sdr"
) -> Difference:
    """Compare the SI-SDR of a system with that of the mixture."""
    return compare(
        _values(study, rate, system, source, metric),
        _values(study, rate, MIXTURE, source, metric),
    )


def _in_short(study: Study, methods: Sequence[str]) -> str:
    """Say how far the other methods are from `native`, over all rates."""
    text = ""
    for name in methods:
        found = {
            rate: study.differences[key, name].mean
            for rate in study.sample_rates
            if rate != study.native_rate
            and (key := ScoreKey(rate, NATIVE, ALL_SOURCES, "si_sdr"), name) in study.differences
        }
        if name != NATIVE and found:
            low, high = (choose(found, key=lambda rate: found[rate]) for choose in (min, max))
            text += (
                f"- `{name}`: {signed(found[low], 3)} dB (at {kilohertz(low)} kHz) to "
                f"{signed(found[high], 3)} dB (at {kilohertz(high)} kHz)\n"
            )
    text = f"\n`native` is ahead of the other methods in SI-SDR by\n\n{text}"
    means = {
        rate: improvement(study, rate, NATIVE, ALL_SOURCES, COMMON_BAND).mean
        for rate in study.sample_rates
    }
    if study.native_rate in means:
        apart = {rate: mean - means[study.native_rate] for rate, mean in means.items()}
        furthest = max(apart, key=lambda rate: abs(apart[rate]))
        text += (
            f"\nIts SI-SDR improvement up to 4 kHz differs from that at "
            f"{kilohertz(study.native_rate)} kHz by at most {signed(apart[furthest])} dB (at "
            f"{kilohertz(furthest)} kHz).\n"
        )
    return text


def _improvement(study: Study, rate: int, system: str, source: str, metric: str = "si_sdr") -> str:
    return signed(improvement(study, rate, system, source, metric).mean)


def _beaten(study: Study) -> str:
    """Say where the trained model does little for a stem."""
    found = []
    for rate in study.sample_rates:
        for source in study.sources:
            trained = improvement(study, rate, NATIVE, source)
            others = {MIXTURE: 0.0}
            if UNTRAINED in study.systems:
                others[UNTRAINED] = improvement(study, rate, UNTRAINED, source).mean
            found += [
                f"{source} at {kilohertz(rate)} kHz ({name})"
                for name, other in others.items()
                if trained.tracks and not trained.mean >= other + _MARGIN_DB
            ]
    if not found:
        found = ["none"]
    others = (
        "the mixture and the untrained network" if UNTRAINED in study.systems else "the mixture"
    )
    return (
        f"\nStems on which `native` is not {_MARGIN_DB:g} dB above {others}: {', '.join(found)}.\n"
    )


def _differences(study: Study, rate: int, methods: Sequence[str], metric: str) -> list[str]:
    cells = []
    for name in methods:
        found = study.differences.get((ScoreKey(rate, NATIVE, ALL_SOURCES, metric), name))
        if name == NATIVE:
            continue
        if found is None:
            cells.append("-")
            continue
        p = "" if math.isnan(found.p) else f", p {found.p:.2g}"
        cells.append(
            f"{signed(found.mean, 3)} [{signed(found.low, 3)}, {signed(found.high, 3)}], "
            f"{found.ahead}/{found.tracks}{p}"
        )
    return cells


def _median(study: Study, rate: int, system: str, source: str, metric: str) -> str:
    values = _values(study, rate, system, source, metric)
    return signed(summarise(values.values()).median)


def _leakage(study: Study, rate: int, source: str) -> str:
    values = _values(study, rate, NATIVE, source, "leakage_db").values()
    if not values:
        return "-"
    found = summarise(values)
    return f"{signed(found.median)}, {signed(max(values))} ({found.tracks})"


def _counts(study: Study) -> dict[str, int]:
    rate = study.sample_rates[0]
    return {
        name: len(_values(study, rate, NATIVE, name, "si_sdr"))
        for name in (*study.sources, ALL_SOURCES)
    }


def _values(study: Study, rate: int, system: str, source: str, metric: str) -> Mapping[str, float]:
    return study.scores.get(ScoreKey(rate, system, source, metric), {})


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown, with an empty line above."""
    lines = ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def kilohertz(rate: int) -> str:
    """Write a rate in kHz."""
    return f"{rate / 1000:g}"


def signed(value: float, digits: int = 2) -> str:
    """Write a number with its sign; NaN as a dash."""
    if math.isnan(value):
        return "-"
    text = f"{value:+.{digits}f}"
    return text.replace("-", "+") if float(text) == 0 else text
