"""What the commands share that score: running, and showing tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.render import output, progress_bar, show_error, show_message, show_table
from sfisep_core.errors import DatasetError

if TYPE_CHECKING:
    from sfisep_core.data.datasets import StemDataset
    from sfisep_core.data.manifest import PreparedTrack
    from sfisep_core.evaluation.evaluate import Evaluation
    from sfisep_core.evaluation.pieces import Settings
    from sfisep_core.evaluation.systems import System
    from sfisep_core.separation.rate_changes import MethodOptions

# What a terminal has room for; all the others are in the files.
_SHOWN = ("sdr", "isr", "sir", "sar", "si_sdr", "si_sdr_common_band", "snr")
_COMPARED = ("sdr", "si_sdr", "snr")


def method_options(kernel_noise: float | None, post_noise: float | None) -> "MethodOptions":
    """Give the settings of the baselines that add noise; None leaves a level as it is."""
    from sfisep_core.separation.rate_changes import MethodOptions

    options = MethodOptions()
    if kernel_noise is not None:
        options = replace(options, kernel_noise_level=kernel_noise)
    return options if post_noise is None else replace(options, post_noise_level=post_noise)


def run(
    dataset: "StemDataset",
    tracks: Sequence["PreparedTrack"],
    *,
    systems: Sequence["System"],
    sample_rates: Sequence[int],
    out: Path,
    settings: "Settings",
    jobs: int,
    quiet: bool,
) -> "Evaluation":
    """Score systems on tracks at rates, with a progress bar; show what failed."""
    from sfisep_core.evaluation.evaluate import evaluate
    from sfisep_core.evaluation.plan import SOURCES

    with progress_bar(quiet=quiet) as show_progress:
        evaluation = evaluate(
            dataset,
            tracks,
            systems=systems,
            sample_rates=sample_rates,
            sources=SOURCES,
            out=out,
            settings=settings,
            jobs=jobs,
            progress=show_progress,
        )
    for failure in evaluation.failures:
        where = f"{failure.track}, {failure.system} at {failure.sample_rate} Hz"
        show_error(f"{where}: {failure.message}")
    if not quiet:
        old = len(evaluation.scores) - evaluation.computed
        show_message(f"{evaluation.computed} scores computed, {old} were there already: {out}")
    return evaluation


def finish(
    evaluation: "Evaluation",
    systems: Sequence["System"],
    about: Mapping[str, Any],
    *,
    folder: Path,
) -> dict[str, Any]:
    """Write the tables into a folder, and give them.

    Raises:
        DatasetError: They cannot be written.
    """
    from sfisep_core.evaluation.tables import collect, report, write_tables

    tables = report(evaluation, [system.name for system in systems], about)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tables(folder, tables, collect(evaluation.scores))
    except OSError as error:
        msg = f"tables in {folder}: cannot be written: {error.strerror}; choose another --out"
        raise DatasetError(msg) from error
    return tables


def show_scores(tables: Mapping[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Show tables, and leave with an error where something failed.

    Raises:
        Exit: Something was not scored.
    """
    if as_json:
        from sfisep_core.evaluation.tables import to_json

        output.print(to_json(tables), markup=False, soft_wrap=True)
    elif not quiet:
        _show(tables)
    if tables["failures"]:
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
            output.print(f"{first} minus the others, paired: mean [95 % interval], p of Wilcoxon")
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
    return [
        [system, source, str(max(of_metric[key]["tracks"] for key in shown if key in of_metric))]
        + [
            f"{_number(of_metric[key]['median'])}\n{_number(of_metric[key]['mean'])}"
            if key in of_metric
            else "-"
            for key in shown
        ]
        for (system, source), of_metric in found.items()
        if any(key in of_metric for key in shown)
    ]


def _difference_rows(
    differences: Iterable[Mapping[str, Any]], compared: Sequence[str]
) -> list[list[str]]:
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in differences:
        found.setdefault((row["minus"], row["source"]), {})[row["metric"]] = row

    def cell(row: Mapping[str, Any] | None) -> str:
        if row is None or row["mean"] is None:
            return "-"
        interval = f"[{_number(row['low'], sign=True)}, {_number(row['high'], sign=True)}]"
        p = "" if row["p"] is None else f" p={row['p']:.2g}"
        return f"{_number(row['mean'], sign=True)} {interval}{p}"

    return [
        [other, source, str(max(of_metric[key]["tracks"] for key in compared if key in of_metric))]
        + [cell(of_metric.get(key)) for key in compared]
        for (other, source), of_metric in found.items()
        if any(key in of_metric for key in compared)
    ]


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
            ("silent_estimates", "silent estimates, which have no scores but SNR"),
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


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.2f}" if sign else f"{value:.2f}"
