"""The command line's entry point: registers the commands and turns errors into exit codes.

The command modules import the core inside their functions, so that `--help` never waits for torch.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from sfisep_cli.commands import (
    compare_resampling,
    demo,
    env,
    evaluate,
    models,
    prepare_data,
    separate,
    train,
)
from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.flags import Command, Group
from sfisep_cli.render import show_error
from sfisep_core.errors import AudioFileError, ConfigError, SfisepError
from sfisep_core.foundation.exit_signals import cleaned_up_after_signals

app = typer.Typer(
    name="sfisep",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",  # "rich" keeps the line breaks of the docstrings
    # Local variables are tensors and paths of the user's: they have no place in a traceback.
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=Command)(demo.demo)
app.command("separate", cls=Command)(separate.separate)
app.command("prepare-data", cls=Command)(prepare_data.prepare_data)
app.command("train", cls=Command)(train.train)
app.command("evaluate", cls=Command)(evaluate.evaluate)
app.command("compare-resampling", cls=Command)(compare_resampling.compare_resampling)
app.add_typer(models.app, name="models")
app.command("env", cls=Command)(env.env)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sfisep {version('sfisep')}")
        raise typer.Exit


@app.callback()
def sfisep(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Separate music into vocals, drums, bass and other, at whatever sampling frequency it has."""


@contextmanager
def _standard_output_told() -> Iterator[None]:
    """Turn what a full disk does to standard output into an error message."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        _drop_standard_output()
        raise SystemExit(ExitCode.FAILED) from None
    except OSError as error:
        if error.filename is not None:  # another file: not expected here
            raise
        _drop_standard_output()
        msg = (
            f"standard output: expected it to take the result, got {error.strerror}: make room, or "
            "write elsewhere"
        )
        raise AudioFileError(msg) from error


def _drop_standard_output() -> None:
    """Keep Python from writing once more at exit what could not be written."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and leave by the one door: `SystemExit` with an `ExitCode`.

    Args:
        arguments: What follows the command's name; None takes them from the process.

    Raises:
        SystemExit: Always, with one of `ExitCode`.
    """
    try:
        with cleaned_up_after_signals(), _standard_output_told():
            app(args=arguments, prog_name="sfisep", obj=arguments)
    except ConfigError as error:
        show_error(str(error))
        raise SystemExit(ExitCode.USAGE) from error
    except SfisepError as error:
        show_error(str(error))
        raise SystemExit(ExitCode.FAILED) from error
    except KeyboardInterrupt as error:
        raise SystemExit(ExitCode.INTERRUPTED) from error
