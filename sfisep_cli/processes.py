"""Start several training processes on this machine from the command line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.render import show_error
from sfisep_core.errors import ConfigError, SfisepError
from sfisep_core.wording import counted


def count_processes(gpus: int | None, workers: int, device: str) -> int:
    """Return the requested number of processes: one per GPU, or `workers` on the CPU.

    Raises:
        ConfigError: The options contradict each other, or there are fewer GPUs.
    """
    if gpus is not None and device != "auto":
        msg = f"--gpus {gpus} says where to compute: leave --device {device} out"
        raise ConfigError(msg)
    if workers > 1 and gpus != 0:
        msg = f"--workers {workers} is for training on the CPU: add --gpus 0, or leave it out"
        raise ConfigError(msg)
    if gpus:
        import torch

        count = torch.cuda.device_count()
        if gpus > count:
            msg = (
                f"--gpus {gpus}: this machine has {counted(count, 'CUDA GPU')}; pass --gpus {count}"
            )
            msg += "" if count else ", which trains on the CPU"
            raise ConfigError(msg)
    return gpus or workers


def exit_after_failure() -> None:
    """Exit a process that was started again although one before it had reported an error.

    Called before anything is loaded, since the launcher starts all processes again several times.

    Raises:
        Exit: An earlier process has reported an error.
    """
    from sfisep_core.training.launch import earlier_failure

    code = earlier_failure()
    if code is not None:
        raise typer.Exit(code)


def start_processes(arguments: Sequence[str] | None, processes: int, max_restarts: int) -> None:
    """Run the same command line in several processes, and exit with their code.

    This does nothing for one process, or in a launched process.

    Args:
        arguments: Arguments after the command's name; None = those of the process.
        processes: Number of processes.
        max_restarts: Maximum number of restarts after a process died.

    Raises:
        Exit: The processes have ended.
    """
    from sfisep_core.training.distributed import launched
    from sfisep_core.training.launch import LaunchError, launch

    if processes == 1 or launched():
        return

    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = launch(
            ["-m", "sfisep_cli", *map(str, arguments)],
            processes=processes,
            max_restarts=max_restarts,
        )
    except LaunchError as error:
        show_error(str(error))
        code = error.exit_code
    raise typer.Exit(code)


@contextmanager
def errors_for_the_launcher() -> Iterator[None]:
    """Report errors to the launcher, if there is one, which shows one error rather than N."""
    from sfisep_core.training.distributed import PeerLostError, launched
    from sfisep_core.training.launch import has_launcher, leave, report_failure

    try:
        yield
    except PeerLostError as error:
        if not has_launcher():
            raise
        raise typer.Exit(ExitCode.FAILED) from error  # the launcher restarts all processes
    except SfisepError as error:
        code = ExitCode.USAGE if isinstance(error, ConfigError) else ExitCode.FAILED
        if not report_failure(str(error), exit_code=code):
            raise
        raise typer.Exit(code) from error
    if launched():
        leave()
