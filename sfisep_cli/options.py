"""The options that several commands share, each defined once."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from sfisep_cli.render import show_log

Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="auto|cpu|cuda[:N]",
        help="Where to compute; auto takes the fastest that is there.",
    ),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        "--name",
        "-n",
        metavar="NAME|FILE",
        help="A name from `sfisep models list`, a .safetensors file, or a checkpoint as the "
        "authors of SFI Conv-TasNet released it.",
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
