"""What the commands share that score: running, and showing tables."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.render import output, progress_bar, show_error, show_message, show_table
from sfisep_core.errors import ConfigError

if TYPE_CHECKING:
    from sfisep_core.evaluation.requests import ScoringRequest, ScoringResult
    from sfisep_core.separation.settings import MethodOptions

# What a terminal has room for; all the others are in the files.
_SHOWN = (
    *("si_snr_improvement", "sdr_improvement"),
    *("sdr", "isr", "sir", "sar", "si_sdr", "si_sdr_common_band", "snr"),
)
_COMPARED = ("sdr", "si_sdr")


def check_output(*, as_json: bool, quiet: bool) -> None:
    """Refuse to print tables and nothing.

    Raises:
        ConfigError: Both are asked for.
    """
    if as_json and quiet:
        msg = "--json and --quiet exclude each other: give one of them"
        raise ConfigError(msg)


def method_options(
    kernel_noise: float | None, post_noise: float | None, low_rate: int, network: str
) -> "MethodOptions":
    """Give the settings of methods; None leaves a level of noise as it is."""
    from sfisep_core.separation.settings import MethodOptions

    options = MethodOptions(low_rate=low_rate, network=network)
    if kernel_noise is not None:
        options = replace(options, kernel_noise_level=kernel_noise)
    return options if post_noise is None else replace(options, post_noise_level=post_noise)


def run(
    score: Callable[..., "ScoringResult"],
    request: "ScoringRequest",
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Carry out a request with a progress bar, and show what came out of it.

    Args:
        score: The core's function for this kind of request.
        request: What to score, and how.
        as_json: Print the tables as JSON.
        quiet: Show errors only.

    Raises:
        Exit: Something could not be scored.
    """
    with progress_bar(quiet=quiet) as show_progress:
        result = score(request, progress=show_progress)
    for failure in result.failures:
        where = f"{failure.track}, {failure.system} at {failure.sample_rate} Hz"
        show_error(f"{where}: {failure.message}")
    if as_json:
        output.print(result.to_json(), markup=False, soft_wrap=True)
    elif not quiet:
        _show(result.tables)
    if not quiet:
        old = len(result.scores) - result.computed
        show_message(f"{result.computed} scores computed, {old} were there already: {result.out}")
        if result.report is not None:
            show_message(f"report: {result.report}")
    if result.failures:
        raise typer.Exit(ExitCode.FAILED)


def _show(tables: Mapping[str, Any]) -> None:
    definitions = tables["definitions"]
    shown = [key for key in _SHOWN if key in definitions]
    labels = [definitions[key]["label"] for key in shown]
    for sample_rate in dict.fromkeys(row["sample_rate"] for row in tables["scores"]):
        scores = _at_rate(tables["scores"], sample_rate)
        output.print(f"[b]{sample_rate} Hz[/b]: median over tracks, mean below it, in dB")
        show_table(
            ("system", "source", "tracks", *labels),
            _score_rows(scores, shown),
            target=output,
        )
        differences = _at_rate(tables["differences"], sample_rate)
        if differences:
            first = tables["systems"][0]
            output.print(
                f"{first} minus the others, paired: mean [95 % interval], tracks in which it is "
                "ahead, p of Wilcoxon's test"
            )
            compared = [key for key in _COMPARED if key in definitions]
            show_table(
                ("minus", "source", "tracks", *(definitions[key]["label"] for key in compared)),
                _difference_rows(differences, compared),
                target=output,
            )
        _show_leakage(scores)
        for note in _at_rate(tables["notes"], sample_rate):
            _show_note(note)
    for key in shown:
        output.print(f"{definitions[key]['label']}: {definitions[key]['definition']}", markup=False)


def _at_rate(rows: Iterable[Mapping[str, Any]], sample_rate: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["sample_rate"] == sample_rate]


def _score_rows(scores: Iterable[Mapping[str, Any]], shown: Sequence[str]) -> list[list[str]]:
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in scores:
        found.setdefault((row["system"], row["source"]), {})[row["metric"]] = row
    rows = []
    for (system, source), of_metric in found.items():
        counts = [of_metric[key]["tracks"] for key in shown if key in of_metric]
        if counts:
            cells = [_score_cell(of_metric.get(key), max(counts)) for key in shown]
            rows.append([system, source, str(max(counts)), *cells])
    return rows


def _score_cell(row: Mapping[str, Any] | None, tracks: int) -> str:
    """Show median and mean, and the number of tracks where not all of the row's have the score."""
    if row is None:
        return "-"
    fewer = "" if row["tracks"] == tracks else f"\n({row['tracks']} tr.)"
    return f"{_number(row['median'])}\n{_number(row['mean'])}{fewer}"


def _difference_rows(
    differences: Iterable[Mapping[str, Any]], compared: Sequence[str]
) -> list[list[str]]:
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in differences:
        found.setdefault((row["minus"], row["source"]), {})[row["metric"]] = row

    def cell(row: Mapping[str, Any] | None) -> str:
        if row is None or not row["tracks"]:
            return "-"
        interval = f"[{_number(row['low'], sign=True)}, {_number(row['high'], sign=True)}]"
        p = "" if math.isnan(row["p"]) else f", p {row['p']:.2g}"
        ahead = f"{row['ahead']}/{row['tracks']}"
        return f"{_number(row['mean'], sign=True)} {interval}, {ahead}{p}"

    rows = []
    for (other, source), of_metric in found.items():
        counts = [of_metric[key]["tracks"] for key in compared if key in of_metric]
        if counts:
            cells = [cell(of_metric.get(key)) for key in compared]
            rows.append([other, source, str(max(counts)), *cells])
    return rows


def _show_leakage(scores: Iterable[Mapping[str, Any]]) -> None:
    for row in scores:
        if row["metric"] == "leakage_db":
            output.print(
                f"{row['system']}: {row['source']} where silent ({row['tracks']} tracks): leakage "
                f"{_number(row['median'])} dB relative to the mixture (median)",
                markup=False,
            )


def _show_note(note: Mapping[str, Any]) -> None:
    found = [
        f"{note[key]} {words}"
        for key, words in (
            ("silent_frames", "frames without scores, since a reference or estimate is silent"),
            ("silent_sources", "silent references, rated by leakage"),
            ("silent_estimates", "silent estimates of what sounds"),
            (
                "ill_conditioned",
                "tracks without ISR, SIR and SAR, which their references leave open",
            ),
        )
        if note[key]
    ]
    if found:
        output.print(
            f"{note['system']}: of {note['tracks']} tracks, {'; '.join(found)}", markup=False
        )


def _number(value: float, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:+.2f}" if sign else f"{value:.2f}"
