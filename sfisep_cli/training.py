"""Run a request of `sfisep train`: show settings, start processes, or train in this one."""

from typing import TYPE_CHECKING

import typer

from sfisep_cli.render import progress_bar, show_message

if TYPE_CHECKING:
    from sfisep_core.training.loop import TrainingProgress
    from sfisep_core.training.requests import TrainingRequest


def check_settings(request: "TrainingRequest", *, show: bool) -> None:
    """Check all settings; show them and exit if requested.

    Raises:
        Exit: The settings are shown.
    """
    from sfisep_core.training.config_loading import show_config

    config = request.config
    if show:
        typer.echo(show_config(config))
        raise typer.Exit


def run(request: "TrainingRequest", *, quiet: bool) -> None:
    """Run a request with a progress bar, and show its result.

    Args:
        request: The request.
        quiet: Show errors only.

    Raises:
        Exit: A signal was received.
    """
    from sfisep_core.foundation.interrupts import StoppedBySignal
    from sfisep_core.training.distributed import rank
    from sfisep_core.training.requests import run_training

    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: "TrainingProgress") -> None:
            if not progress.message:
                show_progress(progress.step, progress.steps, _label(progress))
            elif not quiet:
                show_message(progress.message)

        try:
            result = run_training(request, progress=report)
        except StoppedBySignal as error:
            if rank() == 0:
                show_message(str(error))
            raise typer.Exit(128 + error.signal_number) from error
    if not quiet and rank() == 0:
        show_message(
            f"best model: {result.best}, SI-SDR {result.best_score:+.2f} dB over the mixture on "
            f"the validation tracks; to use it: `sfisep separate SONG --model {result.best}`"
        )


def _label(progress: "TrainingProgress") -> str:
    parts = [f"step {progress.step} of {progress.steps}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.learning_rate is not None:
        parts.append(f"learning rate {progress.learning_rate:.1e}")
    return ", ".join(parts)
