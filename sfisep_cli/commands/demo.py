"""`sfisep demo`: compose, separate and score a song, as a check of the installation."""

import json
import math
import os
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.options import AsJson, Model, Out, Quiet, check_models
from sfisep_cli.render import output, progress_bar, show_error, show_output, show_table
from sfisep_cli.standard_streams import show_json

if TYPE_CHECKING:
    from sfisep_core.evaluation.demo import DemoResult, StemScore

SCHEMA = "sfisep-demo-1"
"""Changes whenever a field changes its meaning or is removed."""

_DEMO_MODEL = "sfi-conv-tasnet-small"  # `demo.DEMO_MODEL`, which is slow to import

_COLUMNS = ("rate", "stem", "SI-SDR", "over mixture", "SDR", "over mixture")


def demo(
    out: Out = Path("sfisep-demo"),
    sample_rates: Annotated[
        list[int] | None,
        typer.Option(
            "--sr",
            metavar="HZ",
            min=4000,
            max=384000,
            help="Sampling frequency to separate at, besides the song's own, which is 44100 Hz. "
            "May be repeated.",
            show_default="8000",
        ),
    ] = None,
    model: Model = _DEMO_MODEL,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compose a song of 20 s, separate it, and score each stem against the true one.

    This is the quickest way to see and hear what sfisep does, and a check of the installation: the
    exit code is 1 where a stem comes out no better than the mixture.
    """
    check_models(model)
    from sfisep_core.evaluation.demo import DemoRequest, run_demo

    request = DemoRequest(out=out, sample_rates=tuple(sample_rates or (8000,)), model=model)
    with progress_bar(quiet=quiet) as show_progress:
        result = run_demo(request, progress=show_progress)
    if as_json:
        show_json(_json_report(result))
    elif not quiet:
        _show(result)
    if result.failures:
        failed = ", ".join(
            f"{score.stem} at {score.sample_rate} Hz {score.si_sdr_improvement:+.1f} dB"
            for score in result.failures
        )
        show_error(
            f"model {result.model.shown}: expected an SI-SDR above the mixture's for every stem, "
            f"got {failed}: try {_DEMO_MODEL}; if that is what failed, please report what "
            "`sfisep env` shows"
        )
        raise typer.Exit(ExitCode.FAILED)


_ABOUT_THE_MODEL = (
    "The small model separated it, which knows composed voices. The default one, for",
    "songs of yours, knows recorded ones, and is better on these.",
)


def _show(result: "DemoResult") -> None:
    show_table(_COLUMNS, map(_row, result.scores), target=output)
    lines = [
        "In dB, higher is better. over mixture: what is gained over taking the mixture",
        "for every stem. SDR: median over frames of one second, as museval defines it.",
        *(_ABOUT_THE_MODEL if result.model.name == _DEMO_MODEL else ()),
        "",
        "The song, and the true stems that add up to it:",
        *(f"  {path}" for path in (result.mixture, *result.true_stems.values())),
    ]
    for separated in result.separations:
        lines += ["", f"Separated at {separated.sample_rate} Hz:"]
        lines += [f"  {path}" for path in separated.stems.values()]
    lines += ["", "To try next:", *(f"  {command}" for command in _next_commands(result))]
    # Lines of their own, never broken: paths and commands are there to be copied.
    for line in lines:
        show_output(line)


def _row(score: "StemScore") -> tuple[str, ...]:
    return (
        f"{score.sample_rate} Hz",
        score.stem,
        f"{score.si_sdr:.1f}",
        f"{score.si_sdr_improvement:+.1f}",
        f"{score.sdr:.1f}",
        f"{score.sdr_improvement:+.1f}",
    )


def _next_commands(result: "DemoResult") -> list[str]:
    name, mixture = result.model.name, shlex.quote(str(result.mixture))
    this = f" --model {shlex.quote(name)}"
    stems = Path(os.path.commonpath(result.separations[0].stems.values()))
    return [
        f"sfisep listen {shlex.quote(str(stems))}",
        f"sfisep separate {mixture} --sr 8000 --method resample{this}",
        f"sfisep separate YOUR-SONG.mp3{'' if name == _DEMO_MODEL else this}",
        "sfisep prepare-data --demo demo-data",
        f"sfisep evaluate --data demo-data --sr 16000 --baseline resample{this}",
    ]


def _json_report(result: "DemoResult") -> str:
    report = {
        "schema": SCHEMA,
        "version": version("sfisep"),
        "model": {"name": result.model.shown, "sha256": result.model.sha256},
        "device": result.device,
        "mixture": str(result.mixture),
        "true_stems": {name: str(path) for name, path in result.true_stems.items()},
        "rates": [
            {
                "sample_rate": separated.sample_rate,
                "channels": separated.channels,
                "frames": separated.frames,
                "seconds": separated.seconds,
                "elapsed_seconds": round(separated.elapsed, 3),
                "stems": {name: str(path) for name, path in separated.stems.items()},
                "scores": {
                    score.stem: _json_scores(score)
                    for score in result.scores
                    if score.sample_rate == separated.sample_rate
                },
            }
            for separated in result.separations
        ],
        "failed": len(result.failures),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)


def _json_scores(score: "StemScore") -> dict[str, Any]:
    """Return the scores in dB; None for a missing or infinite score."""
    values = {
        "si_sdr": score.si_sdr,
        "si_sdr_improvement": score.si_sdr_improvement,
        "sdr": score.sdr,
        "sdr_improvement": score.sdr_improvement,
    }
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
