"""Request of a training run, as a user states it.

This module loads PyTorch only when a run starts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfisep_core.training.config import TrainingConfig
    from sfisep_core.training.loop import TrainingProgress, TrainingResult


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Request of `run_training`.

    Attributes:
        data: Folder of a prepared data set; None = the one prepared last, or with `resume` that of
            the run.
        out: Folder of the run, see `loop.train`; None = runs/NAME, the name of the preset or file.
        config_file: TOML file, or the name of a preset; None = the default preset, or with `resume`
            the settings of the run.
        overrides: `key=value` texts that override the file, see `config_loading.load_config`.
        resume: Resume from the checkpoint in `out`.
        change_data: Resume although `data` differs from the run's training data.
        init: Model file or name with the initial weights; None = random ones.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1", ...
        loader_workers: Number of processes that read examples, per training process.
        tensorboard: Write TensorBoard's files as well.
        threads: Number of PyTorch threads on the CPU; None = unchanged.
    """

    data: Path | None = None
    out: Path | None = None
    config_file: Path | None = None
    overrides: tuple[str, ...] = ()
    resume: bool = False
    change_data: bool = False
    init: str | None = None
    device: str = "auto"
    loader_workers: int = 0
    tensorboard: bool = False
    threads: int | None = None

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        from sfisep_core.training.config_loading import DEFAULT_PRESET

        name = DEFAULT_PRESET if self.config_file is None else self.config_file.stem
        return Path("runs") / name if self.out is None else self.out

    @cached_property
    def config(self) -> "TrainingConfig":
        """The requested settings; they are read once.

        Raises:
            CheckpointError: There is no run to resume, or the model of `init` cannot be read.
            ConfigError: A setting is unknown or out of range.
        """
        from sfisep_core.training.config_loading import load_config, resumed_config

        overrides = list(self.overrides)
        if self.resume:
            return resumed_config(self.folder, file=self.config_file, overrides=overrides)
        return load_config(self.config_file, overrides=overrides, init=self.init)


def run_training(
    request: TrainingRequest, *, progress: "Callable[[TrainingProgress], None] | None" = None
) -> "TrainingResult":
    """Train a separator, see `loop.train`.

    If a launcher started several processes, all of them call this with the same request. After a
    restart they resume from the last checkpoint.

    Args:
        request: The request.
        progress: Called before the first step and after every step, in the first process only.

    Returns:
        Files and best score.

    Raises:
        SfisepError: See `TrainingRequest.config` and `loop.train`.
        StoppedBySignal: A signal was received; the checkpoint contains all steps done.
    """
    import torch

    from sfisep_core.data.remembered import find_dataset
    from sfisep_core.training.checkpoint import CHECKPOINT_NAME
    from sfisep_core.training.distributed import restarts
    from sfisep_core.training.loop import train

    own_data = request.resume and request.data is None
    data = None if own_data else find_dataset(request.data)
    config = request.config
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    if restarts() and (request.folder / CHECKPOINT_NAME).exists():
        request = replace(request, resume=True, init=None)
    return train(
        config,
        data=data,
        out=request.folder,
        resume=request.resume,
        change_data=request.change_data,
        init=request.init,
        device=request.device,
        loader_workers=request.loader_workers,
        tensorboard=request.tensorboard,
        progress=progress,
    )
