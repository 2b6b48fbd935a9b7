"""Options that several commands share, each defined once."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from sfisep_cli.completion import complete_model
from sfisep_cli.render import show_log
from sfisep_core.errors import ConfigError

Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="auto|cpu|cuda[:N]|mps",
        help="Where to compute; auto takes a CUDA GPU if there is one, else the CPU. mps: the GPU "
        "of an Apple computer, untested.",
    ),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        "--name",
        "-n",
        metavar="NAME|FILE|URL",
        help="A name from `sfisep models list`, a .safetensors file, a file as the authors of SFI "
        "Conv-TasNet, SCNet, Spleeter or torchaudio's bundles published it, or the address of one "
        "of these. What is not on this machine is downloaded once.",
        autocompletion=complete_model,
    ),
]

SampleRate = Annotated[
    int | None,
    typer.Option(
        "--sr",
        metavar="HZ",
        min=4000,
        max=384000,
        help="Sampling frequency to work and write at.",
        show_default="that of the input",
    ),
]

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="A data set as `sfisep prepare-data` makes it.",
        show_default="the last one that was prepared",
    ),
]

Split = Annotated[
    Literal["train", "valid", "test"], typer.Option(help="Which tracks of the data set to score.")
]

Tracks = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Score this track only; * and ? stand for any characters. May be repeated.",
    ),
]

Metrics = Annotated[
    Literal["all", "sdr", "museval"],
    typer.Option(
        help="all: SDR, ISR, SIR and SAR as museval defines them, SI-SDR and SNR. sdr: the same "
        "without ISR, SIR and SAR, which take most of the time. museval: the four by museval "
        "itself, far slower, which needs ffmpeg."
    ),
]

AllowUpsampled = Annotated[
    bool,
    typer.Option(
        "--allow-upsampled",
        help="Score at rates above those that tracks or estimates are stored at.",
    ),
]

KernelNoise = Annotated[
    float | None,
    typer.Option(
        metavar="LEVEL",
        min=0.0,
        help="Of noisy-kernel: noise on the taps of the resampler, relative to their RMS.",
        rich_help_panel="Baselines",
        show_default="0.3",
    ),
]

PostNoise = Annotated[
    float | None,
    typer.Option(
        metavar="LEVEL",
        min=0.0,
        help="Of post-noise: noise in the resampled mixture, relative to its RMS.",
        rich_help_panel="Baselines",
        show_default="0.03",
    ),
]

LowRate = Annotated[
    int,
    typer.Option(
        "--low-rate",
        metavar="HZ",
        min=0,
        help="Of super-resolve: sampling frequency to separate at; what it cannot hold of the "
        "stems is made of the mixture.",
        show_default="that of --network, or the model's own",
    ),
]

Network = Annotated[
    str,
    typer.Option(
        "--network",
        metavar="MODEL",
        help="Of super-resolve: a super-resolved model, by name or file, whose network is taken.",
        show_default="the model's own, if it is such a model; otherwise none: the band above is "
        "shared out without a network",
        autocompletion=complete_model,
    ),
]

_EXECUTION = "Several at the same time"

Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        min=1,
        help="Files or tracks to work on at the same time, each in a process of its own.",
        rich_help_panel=_EXECUTION,
    ),
]

EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="ray: let --jobs workers of the Ray cluster at RAY_ADDRESS do it, or of one that is "
        "started here. Needs the extra: ray.",
        rich_help_panel=_EXECUTION,
    ),
]

ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do every N-th file or track only, beginning with the I-th, so that N machines can "
        "share the work.",
        rich_help_panel=_EXECUTION,
    ),
]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the results as JSON instead, on standard output.")
]

Segment = Annotated[
    float | None,
    typer.Option(
        "--segment",
        metavar="SECONDS",
        min=0.0,
        help="Length of the pieces to work on: less takes less memory. 0 takes each file whole.",
        show_default="the model's own",
    ),
]

_out = typer.Option(
    "--out",
    "-o",
    metavar="DIR",
    file_okay=False,
    help="Folder to write to; made where it does not exist.",
)
Out = Annotated[Path, _out]
OptionalOut = Annotated[Path | None, _out]


def _set_log_level(quiet: bool) -> bool:
    show_log(level=logging.WARNING if quiet else logging.INFO)
    return quiet


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_set_log_level,
        help="Show warnings and errors only: no progress bar, no summary.",
    ),
]


def check_models(*names: str | None) -> None:
    """Check names of models before PyTorch is loaded.

    Args:
        names: Values of --model; None and "" mean no model.

    Raises:
        UnknownModelError: There is no such name and no such file.
        CheckpointError: A file is not a model.
    """
    from sfisep_core.pretrained.registry import known_sources

    for name in names:
        if name:
            known_sources(name)


def check_low_rate(methods: Sequence[str], low_rate: int, network: str) -> None:
    """Check that a method uses the given options of super-resolution.

    Raises:
        ConfigError: An option is given without its method.
    """
    for name, value in (("--low-rate", low_rate), ("--network", network)):
        if value and "super-resolve" not in methods:
            msg = f"{name} is for the method super-resolve: give that, or leave it out"
            raise ConfigError(msg)
