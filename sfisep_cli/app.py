"""The command line's entry point: registers the commands and turns errors into exit codes.

The command modules import the core inside their functions, so that `--help` never waits for torch.
"""

import errno
from collections.abc import Sequence
from typing import Annotated

import typer

from sfisep_cli.commands import (
    compare_resampling,
    demo,
    env,
    evaluate,
    listen,
    models,
    prepare_data,
    separate,
    train,
)
from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.flags import Command, Group
from sfisep_cli.render import show_error
from sfisep_cli.standard_streams import lenient_standard_error, told_standard_output
from sfisep_core.errors import ConfigError, SfisepError
from sfisep_core.foundation.exit_signals import cleaned_up_after_signals
from sfisep_core.foundation.library_settings import set_library_defaults

app = typer.Typer(
    name="sfisep",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",  # "rich" keeps the line breaks of the docstrings
    # Local variables are tensors and the user's paths, which do not belong in a traceback.
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=Command)(demo.demo)
app.command("separate", cls=Command)(separate.separate)
app.command("listen", cls=Command)(listen.listen)
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


_ADVICE = {
    errno.EACCES: "take a place that you may read and write; SFISEP_CACHE and SFISEP_DATA name "
    "those of the program's own files",
    errno.EPERM: "take a place that you may read and write",
    errno.EMFILE: "raise the limit of open files (`ulimit -n 1024`)",
    errno.ENFILE: "end other programs: the system can open no more files",
    errno.ENOLCK: "use a folder of another file system",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "use a folder that can be written to",
    errno.EIO: "check the disk",
    errno.ENOMEM: "free memory, or raise the limit (`ulimit -v`)",
}
"""Advice for system errors that any file can cause."""


def _system_error(error: BaseException) -> str | None:
    """Describe a system error; None if the error is a defect of the program."""
    if isinstance(error, MemoryError):
        return f"memory ran out: {_ADVICE[errno.ENOMEM]}"
    if isinstance(error, ImportError):
        # Errors of the shared-library loader are only recognisable by their text.
        missing = ("failed to map", "cannot allocate memory", "cannot map")
        lacks_memory = any(text in str(error).lower() for text in missing)
        return f"memory ran out: {error}: {_ADVICE[errno.ENOMEM]}" if lacks_memory else None
    if not isinstance(error, OSError):
        return None
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the working folder no longer exists: change to another one"
    if error.errno not in _ADVICE:
        return None
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror}: {_ADVICE[error.errno]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and always exit by `SystemExit` with an `ExitCode`.

    Args:
        arguments: Arguments after the command's name; None = those of the process.

    Raises:
        SystemExit: Always, with one of `ExitCode`.
    """
    set_library_defaults()
    with lenient_standard_error():
        try:
            with cleaned_up_after_signals(), told_standard_output():
                app(args=arguments, prog_name="sfisep", obj=arguments)
        except ConfigError as error:
            show_error(str(error))
            raise SystemExit(ExitCode.USAGE) from error
        except SfisepError as error:
            show_error(str(error))
            raise SystemExit(ExitCode.FAILED) from error
        except KeyboardInterrupt as error:
            raise SystemExit(ExitCode.INTERRUPTED) from error
        except (OSError, MemoryError, ImportError) as error:
            message = _system_error(error)
            if message is None:
                raise
            show_error(message)
            raise SystemExit(ExitCode.FAILED) from error
