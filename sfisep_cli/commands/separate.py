"""`sfisep separate`: stems of audio files, at their own sampling frequency."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sfisep_cli.live import Channels, Raw, Stream, run_live
from sfisep_cli.options import (
    AsJson,
    Device,
    EngineOption,
    Jobs,
    LowRate,
    Model,
    Network,
    Quiet,
    SampleRate,
    Segment,
    ShardOption,
    check_low_rate,
)
from sfisep_cli.separation import run
from sfisep_cli.short_forms import container_of, encoding_of, method_of, stems_of
from sfisep_core.separation.output import ClipMode, Container, Output
from sfisep_core.separation.separate import FILENAME, STEM_FILE_NAME, SeparationRequest
from sfisep_core.separation.settings import (
    MethodName,
    MethodOptions,
    Precision,
    SeparationSettings,
)

_FORMAT = "What is written"
_SPEED = "Speed and memory"


def _format_flag(name: str, text: str) -> Any:
    """Declare a flag that says what is written."""
    return typer.Option(name, help=text, rich_help_panel=_FORMAT)


def separate(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            readable=False,  # an unreadable file fails when it is processed, like other errors
            help="Audio files, patterns, or folders: all audio files in them are taken. - reads "
            "standard input.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR|beside|-",
            help="Folder to write to; made where it does not exist. beside writes next to each "
            "input. - writes one stem to standard output.",
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
            "the input as it is. Those that resample hold a file in memory.",
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
        _format_flag(
            "--residual",
            "Also write what the sum of the stems lacks of the mixture, as residual. With "
            "the bundled models it is silence.",
        ),
    ] = False,
    container: Annotated[
        Container | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="File format of the stems: wav, flac, mp3, ogg (Vorbis), opus, or stem.mp4: one "
            "file of mixture and stems for DJ programs. In wav, flac and stem.mp4 they sum to the "
            "mixture.",
            rich_help_panel=_FORMAT,
            show_default="wav",
        ),
    ] = None,
    mp3: Annotated[bool, _format_flag("--mp3", "Short for --format mp3.")] = False,
    flac: Annotated[bool, _format_flag("--flac", "Short for --format flac.")] = False,
    bitrate: Annotated[
        int | None,
        typer.Option(
            metavar="KBPS",
            min=1,
            help="Of mp3 (constant), ogg and opus (on average), in kbit/s.",
            rich_help_panel=_FORMAT,
            show_default="about 320 for stereo",
        ),
    ] = None,
    int16: Annotated[
        bool, _format_flag("--int16", "Write 16-bit samples, the default of stem.mp4.")
    ] = False,
    int24: Annotated[
        bool, _format_flag("--int24", "Write 24-bit samples, the default of wav and flac.")
    ] = False,
    float32: Annotated[
        bool, _format_flag("--float32", "Write floating-point samples, which cannot clip.")
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
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Of each stem, below OUT/MODEL and the folders of the input. May also contain "
            "{parent}, the name of the input's folder, {model} and {date}.",
            rich_help_panel=_FORMAT,
            show_default=f"{FILENAME}, for stem.mp4 {STEM_FILE_NAME}",
        ),
    ] = None,
    no_tags: Annotated[
        bool,
        _format_flag(
            "--no-tags",
            "Write no tags: otherwise every stem has those of the input, its cover, and one "
            "that names program and model.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing/--overwrite",
            help="Leave inputs alone whose stems are all there already.",
            rich_help_panel=_FORMAT,
        ),
    ] = False,
    page: Annotated[
        bool,
        _format_flag(
            "--page",
            "Also write listen.html beside the stems of each file: a page that plays them "
            "together, see `sfisep listen`.",
        ),
    ] = False,
    shifts: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Average the stems of N shifts in time, for models whose stems depend on them: N "
            "times the work.",
            rich_help_panel=_SPEED,
        ),
    ] = 1,
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
    jobs: Jobs = 1,
    engine: EngineOption = "local",
    shard: ShardOption = None,
    stream: Stream = False,
    raw: Raw = False,
    channels: Channels = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Separate music into vocals, drums, bass and other.

    Every stem has the sampling frequency, the channels and the exact length of its input, and is
    written as OUT/MODEL/TRACK/STEM.wav, below the folders of a folder that was given. A file that
    fails does not stop the others; the exit code is 1 then. --model A+B averages the stems of two
    models by name.
    """
    method = method_of(method, super_resolve=super_resolve)
    check_low_rate([method], low_rate, network)
    form = container_of(container, mp3=mp3, flac=flac)
    encoding = encoding_of(form, int16=int16, int24=int24, float32=float32)
    options = MethodOptions(seed=seed, low_rate=low_rate, network=network)
    request = SeparationRequest(
        inputs=tuple(inputs),
        out=out,
        model=model,
        sample_rate=sample_rate,
        device=device,
        compiled=compiled,
        settings=SeparationSettings(
            method, segment, overlap, batch_size, precision, options, shifts
        ),
        output=Output(
            form,
            encoding,
            clip_mode,
            stems=stems_of(stems, inputs),
            two_stems=two_stems,
            residual=residual,
            filename=filename or (STEM_FILE_NAME if form == "stem.mp4" else FILENAME),
            tags=not no_tags,
            bitrate=bitrate,
        ),
        skip_existing=skip_existing,
        page=page,
        jobs=jobs,
        engine=engine,
        shard=shard,
    )
    if stream or raw or channels is not None:
        run_live(request, context, channels=channels, quiet=quiet)
    else:
        run(request, as_json=as_json, quiet=quiet)
