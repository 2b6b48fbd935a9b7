"""Training checkpoints: everything needed to resume a run, and the averaged weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.atomic import remove_left_overs, written_whole
from sfisep_core.foundation.locks import LockHeldError, locked
from sfisep_core.pretrained.torch_files import read_torch_file

CHECKPOINT_NAME = "checkpoint.pt"


class ModelAverage:
    """Exponential moving average (EMA) of a model's weights.

    The decay rises as (1 + n) / (10 + n) in the first steps, so that the random initialisation soon
    has no influence. Floating-point buffers are averaged too: the running statistics of batch norms
    only cover about the last ten steps, which have particular songs and sampling frequencies. Other
    buffers are copied.

    Args:
        model: The model in training.
        decay: Decay of the average, 0 to 1.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the weights of a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, values = [], []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """Lock the folder of a run against other runs within the block.

    Raises:
        ConfigError: Another run is writing there.
    """
    try:
        with locked(out / ".lock", wait=False):
            remove_left_overs(out, shared=False)
            yield
    except LockHeldError as error:
        msg = f"run folder {out}: another run is writing there; choose another folder"
        raise ConfigError(msg) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training checkpoint under a temporary name, then rename it.

    Raises:
        CheckpointError: It cannot be written; an earlier one is kept.
    """
    try:
        with written_whole(path) as temporary, temporary.open("xb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        msg = (
            f"checkpoint {path}: cannot be written: {error}; the one before it, if any, is intact: "
            "make room, and go on with --resume"
        )
        raise CheckpointError(msg) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint without executing code from it.

    Raises:
        CheckpointError: It is missing or cannot be read.
    """
    if not path.exists():
        msg = (
            f"checkpoint {path}: not found; there is no run to resume: name its folder with --out, "
            "or leave --resume out to begin one"
        )
        raise CheckpointError(msg)
    state = read_torch_file(path)
    if not isinstance(state, dict):
        msg = (
            f"checkpoint {path}: cannot be read as a training checkpoint: it holds "
            f"{type(state).__name__} instead of the state of a run"
        )
        raise CheckpointError(msg)
    return state
