"""`sfisep prepare-data`: a data set in the layout that training reads."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sfisep_cli.options import EngineOption, Jobs, OptionalOut, Quiet, SampleRate, ShardOption
from sfisep_cli.preparation import (
    DEMO_SAMPLE_RATE,
    DEMO_SECONDS,
    DEMO_TRACKS,
    generate_demo,
    run,
)
from sfisep_core.errors import ConfigError

_DEMO = "Demo corpus"
_SOURCE = "Source"
_OUTPUT = "Output"

_ONLY_FOR_DEMO = {"tracks", "seconds", "seed"}
_ALSO_FOR_DEMO = {"demo", "sample_rate", "quiet"}


def prepare_data(
    context: typer.Context,
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
    jobs: Jobs = 1,
    engine: EngineOption = "local",
    shard: ShardOption = None,
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
        _refuse_given(context, but=_ONLY_FOR_DEMO | _ALSO_FOR_DEMO, why="not for --demo")
        generate_demo(demo, tracks, seconds, sample_rate, seed, quiet=quiet)
        return
    source, out = _places(context, source, out)
    from sfisep_core.data.preparation import PreparationRequest

    request = PreparationRequest(
        source=source,
        out=out,
        layout=layout,
        stem_map=tuple(stem_map or ()),
        sample_rate=sample_rate,
        container=container,
        encoding=encoding,
        exclude=tuple(exclude or ()),
        strict=strict,
        verify=verify,
        jobs=jobs,
        engine=engine,
        shard=shard,
    )
    run(request, quiet=quiet)


def _places(context: typer.Context, source: Path | None, out: Path | None) -> tuple[Path, Path]:
    """Check that source and folder are given, and no options of the demo corpus."""
    others = {str(option.name) for option in context.command.params} - _ONLY_FOR_DEMO
    _refuse_given(context, but=others, why="for --demo only")
    if source is None or out is None:
        missing = " and ".join(
            name for name, value in (("SOURCE", source), ("--out DIR", out)) if value is None
        )
        msg = (
            f"sfisep prepare-data: {missing} missing: give a source and a folder to write to, as "
            "in `sfisep prepare-data SOURCE --out DIR`, or --demo DIR, which needs no source"
        )
        raise ConfigError(msg)
    return source, out


def _refuse_given(context: typer.Context, *, but: set[str], why: str) -> None:
    """Check that no given option would have no effect."""
    names = []
    for option in context.command.params:
        where = context.get_parameter_source(str(option.name))
        # Compared by name, because Typer may include its own Click.
        if option.name not in but and where is not None and where.name == "COMMANDLINE":
            flags = [flag for flag in option.opts if flag.startswith("--")]
            names.append(flags[0] if flags else str(option.metavar))
    if names:
        msg = f"{', '.join(names)}: {why}: leave {'it' if len(names) == 1 else 'them'} out"
        raise ConfigError(msg)
