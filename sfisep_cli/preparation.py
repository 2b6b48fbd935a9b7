"""Run a request of `sfisep prepare-data`, and show its result."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.render import progress_bar, show_error, show_message
from sfisep_core.errors import DatasetError
from sfisep_core.wording import counted

if TYPE_CHECKING:
    from sfisep_core.data.preparation import PreparationRequest

DEMO_TRACKS = 12
DEMO_SECONDS = 30.0
DEMO_SAMPLE_RATE = 44100


class _TrackProgress(Protocol):
    """Progress that the core reports after every track."""

    @property
    def track(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


def run(request: "PreparationRequest", *, quiet: bool) -> None:
    """Run a request with a progress bar, and show its result.

    Args:
        request: The request.
        quiet: Show errors only.

    Raises:
        Exit: A track could not be prepared.
    """
    from sfisep_core.data.prepare import prepare_dataset

    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: _TrackProgress) -> None:
            show_progress(progress.done, progress.total, progress.track)

        prepared = prepare_dataset(request, progress=report)
    for name, reason in prepared.skipped:
        show_error(f"skipped {name}: {reason}")
    if not quiet:
        counts = Counter(track.split for track in prepared.tracks)
        splits = ", ".join(f"{counts[split]} {split}" for split in ("train", "valid", "test"))
        there = counted(len(prepared.tracks), "track")
        if not prepared.written and not prepared.skipped:
            show_message(f"nothing to do: {there} prepared already in {request.out}: {splits}")
        else:
            show_message(f"{there} in {request.out}: {splits}")
    if prepared.tracks:
        _remember(request.out, quiet=quiet)
    if prepared.skipped:
        raise typer.Exit(ExitCode.FAILED)


def generate_demo(
    directory: Path,
    tracks: int | None,
    seconds: float | None,
    sample_rate: int | None,
    seed: int | None,
    *,
    quiet: bool,
) -> None:
    """Compose a data set with a progress bar; None = the defaults above, and seed 0."""
    from sfisep_core.data.demo_corpus import generate_demo_corpus

    tracks = DEMO_TRACKS if tracks is None else tracks
    num_held_out = max(1, tracks // 5)
    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: _TrackProgress) -> None:
            show_progress(progress.done, progress.total, progress.track)

        generate_demo_corpus(
            directory,
            num_train=tracks - 2 * num_held_out,
            num_valid=num_held_out,
            num_test=num_held_out,
            seconds=DEMO_SECONDS if seconds is None else seconds,
            sample_rate=DEMO_SAMPLE_RATE if sample_rate is None else sample_rate,
            seed=seed or 0,
            progress=report,
        )
    if not quiet:
        num_train = tracks - 2 * num_held_out
        counts = f"{num_train} train, {num_held_out} valid, {num_held_out} test"
        show_message(f"{counted(tracks, 'track')} in {directory}: {counts}")
    _remember(directory, quiet=quiet)


def _remember(out: Path, *, quiet: bool) -> None:
    from sfisep_core.data.remembered import VARIABLE, remember_dataset

    try:
        remember_dataset(out)
    except DatasetError as error:  # the request itself is done nevertheless
        show_message(f"warning: {error}")
        return
    if not quiet:
        now = f", once {VARIABLE} is no longer set" if os.environ.get(VARIABLE) else ""
        show_message(f"remembered: without --data, commands use {out}{now}")
