"""`sfisep separate`: stems of audio files, at their own sampling frequency."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.inputs import (
    STANDARD_STREAM,
    check_outputs,
    find_files,
    temporary_folder,
    track_name,
    write_to_stdout,
)
from sfisep_cli.options import (
    AsJson,
    Device,
    LowRate,
    Model,
    Network,
    Quiet,
    SampleRate,
    Segment,
    check_low_rate,
)
from sfisep_cli.render import show_error, show_message
from sfisep_cli.separation import json_report, run_all, summary_lines
from sfisep_core.errors import ConfigError
from sfisep_core.separation.output import ClipMode, Container, Output
from sfisep_core.separation.settings import (
    MethodName,
    MethodOptions,
    Precision,
    SeparationSettings,
)

if TYPE_CHECKING:
    from sfisep_core.separation.plan import Outcome

_FORMAT = "What is written"
_SPEED = "Speed and memory"


def separate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            readable=False,  # one that cannot be read fails when its turn comes, as all others
            help="Audio files, patterns, or folders: all audio files in them are taken. - reads "
            "standard input.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR|-",
            help="Folder to write to; made where it does not exist. - writes one stem to standard "
            "output.",
        ),
    ] = Path("separated"),
    model: Model = "default",
    sample_rate: SampleRate = None,
    device: Device = "auto",
    method: Annotated[
        MethodName,
        typer.Option(
            metavar="METHOD",
            help="native runs the model at the input's own rate; resample converts to the rate "
            "that the model was trained at, and back; super-resolve separates at --low-rate. The "
            "others are for comparisons: soxr is resample with a better filter; noisy-kernel and "
            "post-noise make up for the highs that a lower rate lacks, with noise; direct feeds "
            "the input as it is; super-resolve-share is super-resolve without a network. Those "
            "that resample hold a file in memory.",
        ),
    ] = "native",
    super_resolve: Annotated[
        bool,
        typer.Option(
            "--super-resolve",
            help="Separate at --low-rate, and restore the full band from the mixture: the same as "
            "--method super-resolve.",
        ),
    ] = False,
    low_rate: LowRate = 0,
    network: Network = "",
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Of the noise of noisy-kernel and post-noise."),
    ] = 0,
    stems: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Write these stems only; it takes as long as all.",
            rich_help_panel=_FORMAT,
            show_default="all",
        ),
    ] = None,
    two_stems: Annotated[
        str | None,
        typer.Option(
            metavar="STEM",
            help="Write this stem, and the mixture without it as no_STEM; it takes as long as all.",
            rich_help_panel=_FORMAT,
        ),
    ] = None,
    residual: Annotated[
        bool,
        typer.Option(
            "--residual",
            help="Also write what the sum of the stems lacks of the mixture, as residual. With "
            "the bundled model it is silence.",
            rich_help_panel=_FORMAT,
        ),
    ] = False,
    container: Annotated[
        Container,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="File format of the stems: wav, flac, mp3, ogg (Vorbis) or opus. Only in wav and "
            "flac do they sum to the mixture.",
            rich_help_panel=_FORMAT,
        ),
    ] = "wav",
    int16: Annotated[
        bool, typer.Option("--int16", help="Write 16-bit samples.", rich_help_panel=_FORMAT)
    ] = False,
    int24: Annotated[
        bool,
        typer.Option(
            "--int24",
            help="Write 24-bit samples, the default.",
            rich_help_panel=_FORMAT,
        ),
    ] = False,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32",
            help="Write floating-point samples, which cannot clip.",
            rich_help_panel=_FORMAT,
        ),
    ] = False,
    clip_mode: Annotated[
        ClipMode,
        typer.Option(
            metavar="MODE",
            help="What to do with a track of which a stem exceeds full scale: rescale turns all "
            "its stems down by one gain, so that they still sum to the (turned down) mixture; "
            "clamp cuts the peaks off; none leaves them, and the format cuts them off.",
            rich_help_panel=_FORMAT,
        ),
    ] = "rescale",
    filename: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Of each stem, below OUT/MODEL.",
            rich_help_panel=_FORMAT,
        ),
    ] = "{track}/{stem}.{ext}",
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing/--overwrite",
            help="Leave inputs alone whose stems are all there already.",
            rich_help_panel=_FORMAT,
        ),
    ] = False,
    segment: Segment = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0.0,
            help="What neighbouring pieces have in common, as a share of a piece, below 1.",
            rich_help_panel=_SPEED,
            show_default="the model's own",
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Pieces to compute at once: faster on a GPU, and takes N times the memory.",
            rich_help_panel=_SPEED,
        ),
    ] = 1,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Numbers to compute the network with. bf16 is faster on GPUs, and on the CPUs "
            "that have it; stems differ by about -45 dB. fp16 is for GPUs.",
            rich_help_panel=_SPEED,
        ),
    ] = "fp32",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the network first: takes a minute or so, then GPUs are faster. CPUs need "
            "a C++ compiler, and are as fast without.",
            rich_help_panel=_SPEED,
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Files to separate at the same time, each in a process of its own.",
            rich_help_panel=_SPEED,
        ),
    ] = 1,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="ray: let --jobs workers of the Ray cluster at RAY_ADDRESS do it, or of one that "
            "is started here. Needs the extra: ray.",
            rich_help_panel=_SPEED,
        ),
    ] = "local",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Separate every N-th file only, beginning with the I-th, so that N machines can "
            "share the work.",
            rich_help_panel=_SPEED,
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Separate music into vocals, drums, bass and other.

    Every stem has the sampling frequency, the channels and the exact length of its input, and is
    written as OUT/MODEL/TRACK/STEM.wav. A file that fails does not stop the others; the exit code
    is 1 then.
    """
    if super_resolve:
        if method not in ("native", "super-resolve"):
            msg = f"--super-resolve and --method {method} exclude each other: give one of them"
            raise ConfigError(msg)
        method = "super-resolve"
    check_low_rate([method], low_rate, network)
    encoding = _encoding(int16=int16, int24=int24, float32=float32)
    if container == "flac" and encoding == "float32":
        msg = "--format flac has no floating-point samples: give --int24, or --format wav"
        raise ConfigError(msg)
    if container not in ("wav", "flac") and encoding is not None:
        msg = f"--format {container} has no sample format: leave --{encoding} out, or choose wav"
        raise ConfigError(msg)
    chosen = tuple(name.strip() for name in stems.split(",")) if stems is not None else None
    to_stdout = out == STANDARD_STREAM
    if not to_stdout and out.exists() and not out.is_dir():
        msg = f"--out {out}: expected a folder, got a file: choose another"
        raise ConfigError(msg)
    if to_stdout:
        _check_stdout(
            inputs, one_stem=two_stems is not None or len(chosen or ()) == 1, json=as_json
        )
    from sfisep_core.pretrained.address import folder_name

    with temporary_folder(wanted=to_stdout) as temporary:
        out = temporary or out
        folder = out / folder_name(model)
        paths, failures = find_files(inputs, outputs=(out, folder))
        if to_stdout and len(paths) > 1:
            msg = f"--out - writes one stem of one file: {inputs[0]} stands for {len(paths)} files"
            raise ConfigError(msg)
        check_outputs(paths, folder=folder, filename=filename, suffix=f".{container}")
        if shard is not None:
            from sfisep_core.data.splits import parse_shard

            number, count = parse_shard(shard)
            paths = paths[number - 1 :: count]
        for message in failures.values():
            show_error(message)
        outcomes: list[Outcome] = []
        if paths:
            from sfisep_core.pretrained.registry import known_sources
            from sfisep_core.separation.plan import Job, SeparatorSetup, check_plan

            options = MethodOptions(seed=seed, low_rate=low_rate, network=network)
            settings = SeparationSettings(method, segment, overlap, batch_size, precision, options)
            setup = SeparatorSetup(model, device, compiled, settings)
            output = Output(container, encoding, clip_mode, chosen, two_stems, residual, filename)
            files = [
                Job(path, setup, folder, track_name(path), sample_rate, output, skip_existing)
                for path in paths
            ]
            # What can be refused without the model is refused before PyTorch is loaded.
            sources = known_sources(model)
            if network:
                known_sources(network)
            if sources is not None:
                check_plan(files, sources)
            outcomes = run_all(
                files, sources=sources, jobs=jobs, on_ray=engine == "ray", quiet=quiet
            )
        if to_stdout and outcomes and outcomes[0].result is not None:
            first = next(iter(outcomes[0].result.stems.values()))
            write_to_stdout(first)
    if as_json:
        typer.echo(json_report(outcomes, failures=failures, model=model))
    elif not quiet:
        for line in summary_lines(outcomes, failures, to_stdout=to_stdout):
            show_message(line)
    if failures or any(outcome.error for outcome in outcomes):
        raise typer.Exit(ExitCode.FAILED)


def _encoding(
    *, int16: bool, int24: bool, float32: bool
) -> Literal["int16", "int24", "float32"] | None:
    """Return the one encoding that was asked for, or None for the default."""
    if int16 + int24 + float32 > 1:
        msg = "--int16, --int24 and --float32 exclude each other: give one of them"
        raise ConfigError(msg)
    if int16:
        return "int16"
    if int24:
        return "int24"
    return "float32" if float32 else None


def _check_stdout(inputs: list[Path], *, one_stem: bool, json: bool) -> None:
    """Refuse to mix several things on standard output."""
    if len(inputs) != 1 or inputs[0].is_dir() or not one_stem:
        msg = "--out - writes one stem of one file: name one file, and --two-stems STEM"
        raise ConfigError(msg)
    if json:
        msg = "--out - and --json both write to standard output: leave one of them out"
        raise ConfigError(msg)
