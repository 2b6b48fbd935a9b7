"""`sfisep models`: the models that can be used by name."""

from pathlib import Path
from typing import Annotated

import typer

from sfisep_cli.render import output, show_message, show_table

app = typer.Typer(no_args_is_help=True, help="List the models, and convert released ones.")


@app.command("list")
def list_() -> None:
    """Show the models that `--model` knows by name."""
    from sfisep_core.pretrained.registry import list_models

    rows = (
        (
            entry.name,
            entry.kind,
            f"{entry.native_rate} Hz",
            entry.licence,
            entry.description,
        )
        for entry in list_models()
    )
    columns = ("name", "kind", "trained at", "licence", "description")
    show_table(columns, rows, target=output)


@app.command()
def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="A checkpoint as the authors of SFI Conv-TasNet released it.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT.safetensors", dir_okay=False, help="The file to write.")
    ],
) -> None:
    """Convert a released SFI Conv-TasNet checkpoint to a safetensors file that `--model` reads.

    No code in the checkpoint is ever run.
    """
    from sfisep_core.pretrained.official import convert_official_checkpoint

    convert_official_checkpoint(checkpoint, out)
    show_message(f"written: {out}")
