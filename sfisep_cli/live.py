"""`sfisep separate - --stream --raw`: separate standard input while it comes in."""

from collections.abc import Collection
from typing import Annotated

import typer

from sfisep_cli.render import show_message
from sfisep_cli.standard_streams import RawInput, raw_output
from sfisep_core.errors import ConfigError
from sfisep_core.separation.inputs import STANDARD_STREAM
from sfisep_core.separation.separate import SeparationRequest
from sfisep_core.wording import counted

_LIVE = "Live"

Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Separate standard input while it comes in, to standard output; with --raw, --sr and "
        "--channels. The latency is shown first.",
        rich_help_panel=_LIVE,
    ),
]

Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Of --stream: samples without a header, little-endian, of 16 bits, or as --int24 "
        "(three bytes) or --float32 says; the output is alike. Each of its frames has all channels "
        "of the first stem, then all of the second.",
        rich_help_panel=_LIVE,
    ),
]

Channels = Annotated[
    int | None,
    typer.Option(
        "--channels",
        metavar="N",
        min=1,
        max=64,
        help="Of --stream: channels of the input, and of each stem.",
        show_default="none",
        rich_help_panel=_LIVE,
    ),
]

_NEEDED = ("--stream", "--raw", "--sr", "--channels")
_TAKEN = frozenset(
    {
        *_NEEDED,
        *("--out", "--model", "--device", "--stems", "--two-stems", "--segment", "--quiet"),
        *("--int16", "--int24", "--float32"),
    }
)


def run_live(
    request: SeparationRequest, context: typer.Context, *, channels: int | None, quiet: bool
) -> None:
    """Separate standard input to standard output, and show latency and summary.

    Args:
        request: What the options mean for files; some of them mean the same for streams.
        context: Of the command, which knows what options were given.
        channels: Of the input.
        quiet: Show errors and warnings only.

    Raises:
        ConfigError: The options are not those of a stream.
    """
    _check(request, _given(context))
    assert channels is not None
    assert request.sample_rate is not None
    from sfisep_core.separation.live import LiveRequest, LiveStart, separate_live

    output, segment = request.output, request.settings.segment
    live = LiveRequest(
        sample_rate=request.sample_rate,
        channels=channels,
        encoding=output.encoding or "int16",
        model=request.model,
        # As with --out -, the mixture without the stem is not written.
        stems=output.stems if output.two_stems is None else (output.two_stems,),
        device=request.device,
        segment=LiveRequest.segment if segment is None else segment,
    )

    def show_start(start: LiveStart) -> None:
        count = counted(channels * len(start.stems), "channel")
        show_message(
            f"latency {start.latency:.2f} s, and the time to compute; writes {count}, "
            f"{live.encoding} at {live.sample_rate} Hz: {', '.join(start.stems)}"
        )

    with raw_output() as writer:
        result = separate_live(live, RawInput(), writer, started=None if quiet else show_start)
    if quiet:
        return
    line = f"{result.seconds:.1f} s of music; up to {result.waited:.1f} s of it waited"
    if result.held_up:
        line += f", and the input was held up for {result.held_up:.1f} s"
    if result.clipped:
        line += f"; clipped {counted(result.clipped, 'sample')} at full scale (--float32 does not)"
    show_message(line)


def _given(context: typer.Context) -> list[str]:
    """Return the options of a call, each by its first long name."""
    return [
        next(flag for flag in param.opts if flag.startswith("--"))
        for param in context.command.params
        if param.param_type_name == "option"
        and param.name is not None
        and (source := context.get_parameter_source(param.name)) is not None
        and source.name == "COMMANDLINE"
    ]


def _check(request: SeparationRequest, given: Collection[str]) -> None:
    missing = [option for option in _NEEDED if option not in given]
    if missing:
        msg = (
            f"{missing[0]} is missing: a stream needs --stream, --raw, --sr HZ and --channels N, "
            "since samples without a header do not say what they are; files need none of --stream, "
            "--raw and --channels"
        )
        raise ConfigError(msg)
    if request.inputs != (STANDARD_STREAM,):
        names = " ".join(map(str, request.inputs))
        msg = (
            f"--stream reads samples from standard input alone, got {names}: give -, or leave "
            "--stream, --raw and --channels out to separate files"
        )
        raise ConfigError(msg)
    other = [option for option in given if option not in _TAKEN]
    if other:
        msg = f"{other[0]} is for files: leave it out of a stream"
        raise ConfigError(msg)
    if "--out" in given and request.out != STANDARD_STREAM:
        msg = f"--out {request.out}: a stream is written to standard output: leave --out out"
        raise ConfigError(msg)
