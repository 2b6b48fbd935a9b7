"""`sfisep train`: a separation model from a prepared data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfisep_cli.options import Device, OptionalOut, Quiet
from sfisep_cli.render import progress_bar, show_message
from sfisep_core.errors import ConfigError

if TYPE_CHECKING:
    from sfisep_core.training.loop import TrainingProgress


def train(
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="A data set as `sfisep prepare-data` makes it."
        ),
    ] = None,
    out: OptionalOut = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml|PRESET",
            help="Settings of the model and the training; those it leaves out keep their defaults.",
            show_default="the preset default",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting; stronger than the file. May be repeated.",
        ),
    ] = None,
    show_config: Annotated[
        bool,
        typer.Option("--show-config", help="Show all settings as they would be used, and end."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out, and its settings, where it stopped."
        ),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Start from the weights of this model, by name or file."
        ),
    ] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="CPU threads to compute with.", show_default="all"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a separation model; --out then holds the run: settings, log, checkpoints and model.

    Settings of the model are made in a TOML file or with --set, not with options: see
    --show-config for what there is.
    """
    from sfisep_core.training.config import load_config, resumed_config
    from sfisep_core.training.config import show_config as describe

    if resume and out is not None:
        config = resumed_config(out, file=config_file, overrides=settings or [])
    else:
        config = load_config(config_file, overrides=settings or [])
    if show_config:
        typer.echo(describe(config))
        return
    if data is None or out is None:
        missing = " and ".join(
            name for name, path in (("--data", data), ("--out", out)) if path is None
        )
        msg = f"sfisep train needs {missing}: a prepared data set, and a folder for the run"
        raise ConfigError(msg)

    import torch

    from sfisep_core.training.loop import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: "TrainingProgress") -> None:
            if progress.message and not quiet:
                show_message(progress.message)
            show_progress(
                progress.step,
                progress.steps,
                f"loss {progress.loss:.4f}, learning rate {progress.learning_rate:.1e}, "
                f"{progress.examples_per_second:.1f} examples/s",
            )

        result = run(
            config,
            data=data,
            out=out,
            resume=resume,
            init=init,
            device=device,
            progress=report,
        )
    if not quiet:
        show_message(f"best model: {result.best}, {result.best_score:.2f} dB on the validation set")
