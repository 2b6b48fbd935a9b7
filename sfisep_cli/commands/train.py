"""`sfisep train`: a separation model from a prepared data set."""

from pathlib import Path
from typing import Annotated

import typer

from sfisep_cli.completion import complete_model, complete_preset
from sfisep_cli.options import Data, Device, Quiet, check_models
from sfisep_cli.processes import (
    count_processes,
    errors_for_the_launcher,
    exit_after_failure,
    start_processes,
)
from sfisep_cli.training import check_settings, run

_PROCESSES = "Several processes"


def train(
    context: typer.Context,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Folder for the run; made where it does not exist.",
            show_default="runs/NAME, the name of the preset or file of settings",
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml|PRESET",
            help="Settings of the model and the training; those it leaves out keep their defaults.",
            show_default="the preset sfi-conv-tasnet-small",
            autocompletion=complete_preset,
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
    change_data: Annotated[
        bool,
        typer.Option(
            "--change-data",
            help="With --resume: go on although --data is not what the run was trained with.",
        ),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from the weights of this model, by name or file; super-resolution is "
            "trained on top of it.",
            autocompletion=complete_model,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|bf16|fp16",
            help="Numbers to compute the network with; bf16 is the fast one on GPUs.",
            show_default="as configured",
        ),
    ] = None,
    compile_network: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the network first: takes a minute or two, then is faster."
        ),
    ] = False,
    loader_workers: Annotated[
        int,
        typer.Option(
            "--loader-workers",
            metavar="N",
            min=0,
            help="Processes that read examples ahead, for each training process.",
        ),
    ] = 2,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard's files to OUT/tensorboard, too."),
    ] = False,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="CPU threads to compute with.",
            show_default="all, shared out over the processes",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Train on so many GPUs of this machine; 0 trains on the CPU.",
            show_default="one if there is one",
            rich_help_panel=_PROCESSES,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="With --gpus 0: so many processes on the CPU.",
            rich_help_panel=_PROCESSES,
        ),
    ] = 1,
    max_restarts: Annotated[
        int,
        typer.Option(
            "--max-restarts",
            metavar="N",
            min=0,
            help="After a process has died start all again, from the last checkpoint, so often.",
            rich_help_panel=_PROCESSES,
        ),
    ] = 3,
    quiet: Quiet = False,
) -> None:
    """Train a separation model; --out then holds the run: settings, log, checkpoints and model.

    Settings of the model are made in a TOML file or with --set, not with options: see
    --show-config for what there is. Ctrl-C saves a checkpoint; --resume goes on from there.

    Several machines: start the same command on each with torchrun instead of --gpus.
    """
    from sfisep_core.training.launch import end_with_launcher

    end_with_launcher()
    exit_after_failure()
    from sfisep_core.data.remembered import find_dataset

    # Before PyTorch is loaded. Showing settings needs no data, and a resumed run has its own.
    if not show_config and (data is not None or not resume):
        data = find_dataset(data)
    check_models(init)
    from sfisep_core.training.requests import TrainingRequest

    request = TrainingRequest(
        data=data,
        out=out,
        config_file=config_file,
        overrides=_overrides(settings, precision, compiled=compile_network),
        resume=resume,
        change_data=change_data,
        init=init,
        device={None: device, 0: "cpu"}.get(gpus, "cuda"),
        loader_workers=loader_workers,
        tensorboard=tensorboard,
        threads=threads,
    )
    check_settings(request, show=show_config)
    start_processes(context.obj, count_processes(gpus, workers, device), max_restarts)
    with errors_for_the_launcher():
        run(request, quiet=quiet)


def _overrides(
    settings: list[str] | None, precision: str | None, *, compiled: bool
) -> tuple[str, ...]:
    """Return the changes of settings, including those with separate options."""
    chosen = () if precision is None else (f"precision={precision}",)
    return (*(settings or ()), *chosen, *(("compile=true",) if compiled else ()))
