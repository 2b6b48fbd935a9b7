"""`sfisep prepare-data`: a data set in the layout that training reads."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.options import OptionalOut, Quiet, SampleRate
from sfisep_cli.render import progress_bar, show_error, show_message
from sfisep_core.errors import ConfigError, DatasetError
from sfisep_core.wording import counted

DEMO_TRACKS = 12
DEMO_SECONDS = 30.0
DEMO_SAMPLE_RATE = 44100

_DEMO = "Demo corpus"
_SOURCE = "Source"
_OUTPUT = "Output"


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
            metavar="SOURCE",
            help="A folder with TRACK/STEM.* or {train,valid,test}/TRACK/STEM.*, as MUSDB18-HQ is, "
            "or with {train,test}/TRACK.stem.mp4, as MUSDB18 is, or with "
            "{tr,cv,tt}/{s1,s2,...}/NAME.wav, as WSJ0-2mix and LibriMix are.",
        ),
    ] = None,
    out: OptionalOut = None,
    layout: Annotated[
        Literal["auto", "musdb18", "musdb18-hq", "folders", "numbered"],
        typer.Option(
            metavar="LAYOUT",
            help="How SOURCE is laid out: musdb18, musdb18-hq, folders, numbered, or auto, which "
            "looks. MUSDB18 and MUSDB18-HQ get their standard validation "
            "split; elsewhere, without tracks in valid/, about a tenth of train/ is held out.",
            rich_help_panel=_SOURCE,
        ),
    ] = "auto",
    stem_map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="STEM=NAME,...",
            help="The files that sum to a stem, without suffix: vocals=lead,backing. May be "
            "repeated.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACK:START-END",
            help="Leave out these seconds of a track, as where a stem is wrong. May be repeated.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at the first track that cannot be prepared.",
            rich_help_panel=_SOURCE,
        ),
    ] = False,
    sample_rate: SampleRate = None,
    container: Annotated[
        Literal["wav", "flac"],
        typer.Option(
            "--format",
            help="File format; flac is smaller, and slower to read in training.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "wav",
    encoding: Annotated[
        Literal["int16", "int24", "float32"],
        typer.Option(
            help="Sample format; float32, which only wav has, cannot clip.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "int16",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Tracks to prepare at the same time, each in a process of its own.",
        ),
    ] = 1,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Prepare every N-th track only, beginning with the I-th, so that N machines can "
            "write one folder together.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare all that is prepared already with its checksums, and repair it.",
        ),
    ] = False,
    demo: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Compose and play a data set into this folder, instead of preparing one; at "
            f"{DEMO_SAMPLE_RATE} Hz without --sr. It is prepared as it is.",
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
        given = {
            "SOURCE": source,
            "--out": out,
            "--layout": None if layout == "auto" else layout,
            "--map": stem_map,
            "--exclude": exclude,
            "--strict": strict or None,
            "--format": None if container == "wav" else container,
            "--encoding": None if encoding == "int16" else encoding,
            "--jobs": None if jobs == 1 else jobs,
            "--shard": shard,
            "--verify": verify or None,
        }
        _refuse(given, why="not for --demo")
        _generate_demo(
            demo,
            tracks=DEMO_TRACKS if tracks is None else tracks,
            seconds=DEMO_SECONDS if seconds is None else seconds,
            sample_rate=DEMO_SAMPLE_RATE if sample_rate is None else sample_rate,
            seed=seed or 0,
            quiet=quiet,
        )
        return
    _refuse({"--tracks": tracks, "--seconds": seconds, "--seed": seed}, why="for --demo only")
    if source is None or out is None:
        msg = (
            "sfisep prepare-data: expected SOURCE and --out DIR, or --demo DIR, which needs no "
            "source"
        )
        raise ConfigError(msg)
    _prepare(
        source,
        out,
        quiet=quiet,
        layout=layout,
        stem_map=stem_map or [],
        sample_rate=sample_rate,
        container=container,
        encoding=encoding,
        exclude=exclude or [],
        jobs=jobs,
        shard=shard,
        strict=strict,
        verify=verify,
    )


def _refuse(given: Mapping[str, object], *, why: str) -> None:
    """Refuse what was given but would have no effect."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        msg = f"{', '.join(names)}: {why}: leave {'it' if len(names) == 1 else 'them'} out"
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
        num_train = tracks - 2 * num_held_out
        counts = f"{num_train} train, {num_held_out} valid, {num_held_out} test"
        show_message(f"{counted(tracks, 'track')} in {directory}: {counts}")
    _remember(directory, quiet=quiet)


def _prepare(source: Path, out: Path, *, quiet: bool, **settings: Any) -> None:
    from sfisep_core.data.prepare import prepare_dataset

    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: _TrackProgress) -> None:
            show_progress(progress.done, progress.total, progress.track)

        prepared = prepare_dataset(source, out, progress=report, **settings)
    for name, reason in prepared.skipped:
        show_error(f"skipped {name}: {reason}")
    if not quiet:
        counts = Counter(track.split for track in prepared.tracks)
        splits = ", ".join(f"{counts[split]} {split}" for split in ("train", "valid", "test"))
        there = counted(len(prepared.tracks), "track")
        if not prepared.written and not prepared.skipped:
            show_message(f"nothing to do: {there} prepared already in {out}: {splits}")
        else:
            show_message(f"{there} in {out}: {splits}")
    if prepared.tracks:
        _remember(out, quiet=quiet)
    if prepared.skipped:
        raise typer.Exit(ExitCode.FAILED)


def _remember(out: Path, *, quiet: bool) -> None:
    from sfisep_core.data.remembered import VARIABLE, remember_dataset

    try:
        remember_dataset(out)
    except DatasetError as error:  # what was asked for is done all the same
        show_message(f"warning: {error}")
        return
    if not quiet:
        now = f", once {VARIABLE} is no longer set" if os.environ.get(VARIABLE) else ""
        show_message(f"remembered: without --data, commands use {out}{now}")
