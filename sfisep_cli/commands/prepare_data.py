"""`sfisep prepare-data`: a data set in the layout that training reads."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Protocol

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.options import OptionalOut, Quiet, SampleRate
from sfisep_cli.render import progress_bar, show_error, show_message
from sfisep_core.errors import ConfigError

DEMO_TRACKS = 12
DEMO_SECONDS = 30.0
DEMO_SAMPLE_RATE = 44100

_DEMO = "Demo corpus"


class _TrackProgress(Protocol):
    """What the core reports after every track."""

    @property
    def track(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


def prepare_data(
    source: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="A folder with TRACK/STEM.* or {train,valid,test}/TRACK/STEM.*, as MUSDB18-HQ is. "
            "Without tracks in valid/, about a tenth of the training tracks is held out for it.",
        ),
    ] = None,
    out: OptionalOut = None,
    sample_rate: SampleRate = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACK:START-END",
            help="Leave out these seconds of a track, as where a stem is wrong. May be repeated.",
        ),
    ] = None,
    demo: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Compose and play a data set into this folder, instead of preparing one; at "
            f"{DEMO_SAMPLE_RATE} Hz without --sr.",
            rich_help_panel=_DEMO,
        ),
    ] = None,
    tracks: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=3,
            help="Tracks in all; a fifth of them are for validation and a fifth for testing.",
            show_default=str(DEMO_TRACKS),
            rich_help_panel=_DEMO,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=1.0,
            help="Length of a track.",
            show_default=str(DEMO_SECONDS),
            rich_help_panel=_DEMO,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="Another number makes other music.",
            show_default="0",
            rich_help_panel=_DEMO,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Prepare a data set for training: from the folder SOURCE into --out, or a --demo one.

    Calling it again with the same arguments finishes what is unfinished and changes nothing else. A
    track that cannot be used does not stop the others; the exit code is 1 then.
    """
    if demo is not None:
        _refuse({"SOURCE": source, "--out": out, "--exclude": exclude}, why="are not for --demo")
        _generate_demo(
            demo,
            tracks=DEMO_TRACKS if tracks is None else tracks,
            seconds=DEMO_SECONDS if seconds is None else seconds,
            sample_rate=DEMO_SAMPLE_RATE if sample_rate is None else sample_rate,
            seed=seed or 0,
            quiet=quiet,
        )
        return
    _refuse({"--tracks": tracks, "--seconds": seconds, "--seed": seed}, why="are for --demo only")
    if source is None or out is None:
        msg = "sfisep prepare-data needs SOURCE and --out DIR, or --demo DIR"
        raise ConfigError(msg)
    _prepare(source, out, sample_rate=sample_rate, exclude=exclude or [], quiet=quiet)


def _refuse(given: dict[str, object], *, why: str) -> None:
    """Refuse what was given but would have no effect."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        msg = f"{', '.join(given)} {why}; given: {', '.join(names)}"
        raise ConfigError(msg)


def _generate_demo(
    directory: Path, *, tracks: int, seconds: float, sample_rate: int, seed: int, quiet: bool
) -> None:
    from sfisep_core.data.demo_corpus import generate_demo_corpus

    num_held_out = max(1, tracks // 5)
    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: _TrackProgress) -> None:
            show_progress(progress.done, progress.total, progress.track)

        generate_demo_corpus(
            directory,
            num_train=tracks - 2 * num_held_out,
            num_valid=num_held_out,
            num_test=num_held_out,
            seconds=seconds,
            sample_rate=sample_rate,
            seed=seed,
            progress=report,
        )
    if not quiet:
        show_message(
            f"{tracks} tracks in {directory}, for `sfisep prepare-data {directory} --out DIR`"
        )


def _prepare(
    source: Path, out: Path, *, sample_rate: int | None, exclude: list[str], quiet: bool
) -> None:
    from sfisep_core.data.prepare import prepare_dataset

    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: _TrackProgress) -> None:
            show_progress(progress.done, progress.total, progress.track)

        prepared = prepare_dataset(
            source, out, sample_rate=sample_rate, exclude=exclude, progress=report
        )
    for name, reason in prepared.skipped:
        show_error(f"skipped {name}: {reason}")
    if not quiet:
        counts = Counter(track.split for track in prepared.tracks)
        splits = ", ".join(f"{counts[split]} {split}" for split in ("train", "valid", "test"))
        show_message(f"{len(prepared.tracks)} tracks in {out}: {splits}")
    if prepared.skipped:
        raise typer.Exit(ExitCode.FAILED)
