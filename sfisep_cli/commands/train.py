"""`sfisep train`: a separation model from a prepared data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfisep_cli.options import Data, Device, Quiet, check_models
from sfisep_cli.processes import count_processes, errors_for_the_launcher, start_processes
from sfisep_cli.render import progress_bar, show_message

if TYPE_CHECKING:
    from sfisep_core.training.config import TrainingConfig
    from sfisep_core.training.loop import TrainingProgress

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
    from sfisep_core.data.remembered import find_dataset

    # Before PyTorch is loaded. Whoever looks at settings needs no data, and a run has its own.
    needs_none = show_config or (resume and data is None)
    dataset = None if needs_none else find_dataset(data)
    check_models(init)
    from sfisep_core.training.config import DEFAULT_PRESET, load_config, resumed_config
    from sfisep_core.training.config import show_config as describe

    overrides = list(settings or [])
    overrides += [f"precision={precision}"] if precision is not None else []
    overrides += ["compile=true"] if compile_network else []
    if out is None:
        out = Path("runs") / (DEFAULT_PRESET if config_file is None else config_file.stem)
    if resume:
        config = resumed_config(out, file=config_file, overrides=overrides)
    else:
        config = load_config(config_file, overrides=overrides, init=init)
    if show_config:
        typer.echo(describe(config))
        return
    from sfisep_core.training.distributed import launched

    processes = count_processes(gpus, workers, device)
    if processes > 1 and not launched():
        start_processes(context.obj, processes=processes, max_restarts=max_restarts)
        return
    if gpus is not None:
        device = "cuda" if gpus else "cpu"
    with errors_for_the_launcher():
        _train(
            config,
            data=dataset,
            out=out,
            resume=resume,
            change_data=change_data,
            init=init,
            device=device,
            loader_workers=loader_workers,
            tensorboard=tensorboard,
            threads=threads,
            quiet=quiet,
        )


def _train(
    config: "TrainingConfig",
    *,
    data: Path | None,
    out: Path,
    resume: bool,
    change_data: bool,
    init: str | None,
    device: str,
    loader_workers: int,
    tensorboard: bool,
    threads: int | None,
    quiet: bool,
) -> None:
    import torch

    from sfisep_core.foundation.interrupts import StoppedBySignal
    from sfisep_core.training.checkpoint import CHECKPOINT_NAME
    from sfisep_core.training.distributed import rank, restarts
    from sfisep_core.training.loop import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    if restarts() and (out / CHECKPOINT_NAME).exists():
        resume, init = True, None  # a process has died: go on with what it had done
    with progress_bar(quiet=quiet) as show_progress:

        def report(progress: "TrainingProgress") -> None:
            if progress.message:
                if not quiet:
                    show_message(progress.message)
                return
            parts = [f"step {progress.step} of {progress.steps}"]
            if progress.loss is not None:
                parts.append(f"loss {progress.loss:.4f}")
            if progress.learning_rate is not None:
                parts.append(f"learning rate {progress.learning_rate:.1e}")
            show_progress(progress.step, progress.steps, ", ".join(parts))

        try:
            result = run(
                config,
                data=data,
                out=out,
                resume=resume,
                change_data=change_data,
                init=init,
                device=device,
                loader_workers=loader_workers,
                tensorboard=tensorboard,
                progress=report,
            )
        except StoppedBySignal as error:
            if rank() == 0:
                show_message(str(error))
            raise typer.Exit(128 + error.signal_number) from error
    if not quiet and rank() == 0:
        show_message(
            f"best model: {result.best}, SI-SDR {result.best_score:+.2f} dB over the mixture on "
            f"the validation tracks; to use it: `sfisep separate SONG --model {result.best}`"
        )
