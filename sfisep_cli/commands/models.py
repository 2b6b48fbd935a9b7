"""`sfisep models`: the models that can be used by name, and the folder of downloaded ones."""

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from sfisep_cli.commands import model_files
from sfisep_cli.completion import complete_model
from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.flags import Command, Group
from sfisep_cli.options import AsJson, Quiet
from sfisep_cli.render import progress_bar, show_entries, show_error, show_message, show_output
from sfisep_cli.standard_streams import show_facts
from sfisep_core.errors import CheckpointError, ConfigError, UnknownModelError
from sfisep_core.wording import counted

if TYPE_CHECKING:
    from sfisep_core.training.config_files import Family

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
        show_facts([dataclasses.asdict(entry) for entry in entries])
        return
    rows = (
        (
            (
                entry.name,
                f"{entry.size / 1e6:.1f} MB" if entry.size else "",
                f"{entry.native_rate} Hz" if entry.native_rate else "",
                re.split("[;,]", entry.licence)[0],  # `models show` has the rest
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
        show_facts([dataclasses.asdict(family) for family in known])
        return
    rows = (((family.name,), _about_family(family)) for family in known)
    show_entries(rows, ("family, what it is, and presets for `sfisep train --config`",))


def _about_family(family: "Family") -> str:
    presets = f" Presets: {', '.join(family.presets)}" if family.presets else ""
    return f"{family.description}{presets}"


@app.command(cls=Command)
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL|FILE",
            help="A name or an address that `sfisep models list` shows, or a model file.",
            autocompletion=complete_model,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show all that is known about a model: stems, address, licences, data, scores, cost."""
    from sfisep_core.pretrained.details import show_model

    details = dataclasses.asdict(show_model(name))
    facts = {**details.pop("entry"), **details}
    if as_json:
        show_facts(facts)
        return
    if facts["weights_licence"]:
        del facts["licence"]  # the same, or its beginning
    for key, value in facts.items():
        if value:
            label, lines = key.replace("_", " "), _shown(key, value)
            if len(lines) > 1:
                lines = [f"{label}:", *(f"  {line}" for line in lines)]
            else:
                lines = [f"{label}: {lines[0]}"]
            for line in lines:
                show_output(line)


def _shown(key: str, value: object) -> list[str]:
    """Return the lines for a value."""
    if key in ("size", "download_size") and isinstance(value, int):
        return [f"{value / 1e6:.1f} MB"]
    if key == "stages" and isinstance(value, tuple):
        return list(value)
    return (", ".join(value) if isinstance(value, tuple) else str(value)).split("\n")


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

    A model that fails does not stop the others; the exit code is 1 then, or 2 for an unknown name.
    """
    if sha256 is not None and len(names) > 1:
        msg = f"--sha256: expected one address to download, got {len(names)}"
        raise ConfigError(msg)
    from sfisep_core.pretrained.address import shown_name
    from sfisep_core.pretrained.fetch import fetch_model

    with progress_bar(quiet=quiet) as show_progress:

        def fetch(name: str) -> None:
            path = fetch_model(name, sha256=sha256, progress=show_progress, mend=True)
            if not quiet:
                show_message(f"{shown_name(name)}: {path}")

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

    The exit code is 1 if one is damaged or missing, and 2 if a name is unknown.
    """
    from sfisep_core.pretrained.address import shown_name
    from sfisep_core.pretrained.fetch import check_model, local_models

    def check(name: str) -> None:
        check_model(name)
        show_output(f"{shown_name(name)}: sound")

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
    from sfisep_core.pretrained.address import shown_name
    from sfisep_core.pretrained.cache import remove as remove_cached
    from sfisep_core.pretrained.fetch import find_downloadable

    def remove_one(name: str) -> None:
        freed = remove_cached(find_downloadable(name))
        show_message(f"{shown_name(name)}: removed, {counted(freed, 'byte')} freed")

    _for_each(names, remove_one)


app.command(cls=Command)(model_files.convert)
app.command(cls=Command)(model_files.join)
app.command(cls=Command)(model_files.average)
app.command(cls=Command)(model_files.split)
app.command(cls=Command)(model_files.export)


def _for_each(names: list[str], action: Callable[[str], None]) -> None:
    """Apply an action to every distinct name; a failure is shown and does not stop the others."""
    code = ExitCode.OK
    for name in dict.fromkeys(names):
        try:
            action(name)
        except CheckpointError as error:
            show_error(str(error))
            is_wrong = isinstance(error, UnknownModelError)
            code = max(code, ExitCode.USAGE if is_wrong else ExitCode.FAILED)
    if code:
        raise typer.Exit(code)
