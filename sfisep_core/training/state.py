"""What a run starts from: a model and its optimizer, fresh or from a checkpoint."""

from typing import Any

import torch
from torch import nn

from sfisep_core.data.layouts import STEMS
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.native import check_fit, first_line
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.training.checkpoint import ModelAverage
from sfisep_core.training.config import TrainingConfig


def start_model(config: TrainingConfig, init: str | None) -> SeparationModel:
    """Build the model of a run.

    Args:
        config: Settings of the run.
        init: Model file or name whose weights to start from; None for fresh ones.

    Returns:
        The model in training mode, on the CPU.

    Raises:
        ConfigError: The model cannot be trained here.
        CheckpointError: `init` cannot be read, or does not fit.
    """
    model = build_model(config.family, config.model)
    foreign = [source for source in model.sources if source not in STEMS]
    if foreign:
        msg = (
            f"setting model.sources: expected stems of the data set ({', '.join(STEMS)}), got "
            f"{foreign[0]}"
        )
        raise ConfigError(msg)
    if model.normalizes_level:
        msg = (
            "setting model.normalizes_level: expected false, got true: training does not scale "
            "its mixtures, and separation would: set model.normalizes_level=false"
        )
        raise ConfigError(msg)
    if init is not None:
        weights = resolve_model(init).state_dict()
        where = f"initial weights {init}: they do not fit the configured model"
        check_fit(model.state_dict(), weights, where=where)
        model.load_state_dict(weights)
    return model.train()


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Build the optimizer.

    Weight decay is for matrices; norms, slopes and analog filters (whose values have units) keep
    theirs.
    """
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and ".filters." not in n]
    kept = [p for n, p in model.named_parameters() if p.dim() <= 1 or ".filters." in n]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def restore(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: ModelAverage,
    *,
    weight_decay: float,
) -> tuple[int, float]:
    """Put a checkpoint's state in place.

    Args:
        state: From `load_checkpoint`.
        model: Gets the weights.
        optimizer: Gets its moments.
        average: Gets the averaged weights.
        weight_decay: Of the matrices from now on; the optimizer's state holds the earlier one.

    Returns:
        The step to go on with, and the best validation score so far.

    Raises:
        CheckpointError: The state does not fit.
    """
    where = "resume: the checkpoint does not fit this configuration"
    try:
        for weights in (state["model"], state["average"]):
            check_fit(model.state_dict(), weights, where=where)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        optimizer.param_groups[0]["weight_decay"] = weight_decay
        for name, weights in average.weights.items():
            weights.copy_(state["average"][name])  # into tensors on the model's device
        average.updates = int(state["average_updates"])
        return int(state["step"]), float(state["best_score"])
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        msg = f"{where}: {first_line(error)}"
        raise CheckpointError(msg) from error


def averaged_model(config: TrainingConfig, average: ModelAverage) -> SeparationModel:
    """Build the model that has the averaged weights, in evaluation mode."""
    model = build_model(config.family, config.model)
    model.load_state_dict(average.weights)
    return model.eval()
