"""The state of a run: content of a checkpoint, and initial state."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.float64 import float64_device
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.declared_size import check_fit
from sfisep_core.pretrained.model_files import first_line
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.training.checkpoint import ModelAverage, load_checkpoint, save_checkpoint
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.distributed import Processes
from sfisep_core.training.losses import check_losses
from sfisep_core.training.optimizers import check_optimizer_state, make_optimizer
from sfisep_core.training.run_data import RunData
from sfisep_core.training.update import Update


class StepStatistics:
    """Statistics of the steps, kept on the device until the host reads them.

    Args:
        device: Device of the steps.
    """

    def __init__(self, device: torch.device) -> None:
        # Since the last `take`: sum of losses, steps that counted, all steps. Since the start:
        # steps in a row that did not count, and the maximum of this number.
        self._values = torch.zeros(5, dtype=torch.float64, device=float64_device(device))

    def add(self, loss: Tensor, counted: Tensor) -> None:
        """Add a step; `counted` tells whether its gradients were finite."""
        loss_sum, steps, taken, streak, worst = self._values.unbind()
        loss, counted = loss.to(self._values.device), counted.to(self._values.device)
        streak = torch.where(counted, 0.0, streak + 1)
        self._values = torch.stack(
            [
                loss_sum + torch.where(counted, loss, 0.0),
                steps + counted,
                taken + 1,
                streak,
                torch.maximum(worst, streak),
            ]
        )

    def worst_streak(self) -> int:
        """Return the maximum number of non-finite steps in a row. Synchronises with the device."""
        return int(self._values[4].item())

    def mean(self) -> float:
        """Return the mean loss of this process's share since the last `take`. Synchronises."""
        loss_sum, steps = self._values[:2].tolist()
        return loss_sum / steps if steps else math.nan

    def take(self, processes: Processes) -> tuple[float, int]:
        """Return the mean loss of counted steps since the last call, and how many did not count.

        The loss is that of the whole batch, summed over processes. Synchronises with the device.
        """
        losses = processes.sum(self._values[0].clone())
        steps, taken = (int(value) for value in self._values[1:3].tolist())
        self._values[:3] = 0
        return (losses.item() / steps if steps else math.nan), taken - steps

    def state(self) -> Tensor:
        """Return the state for `load`."""
        return self._values.clone()

    def load(self, state: Tensor) -> None:
        """Restore `state`, except the current number of non-finite steps in a row."""
        self._values.copy_(state)
        self._values[3:] = 0


class RunState:
    """A model in training, its optimizer, and the progress of the run.

    Args:
        config: Settings of the run.
        processes: The processes that share it.
        init: Model file or name with the initial weights; None = random ones.

    Attributes:
        step: Number of steps done.
        validated_step: The step of the last validation.
        best_score: Best validation score in dB.
        stale_validations: Number of validations since the best one.
        data: The data of the run; None before they are known.

    Raises:
        ConfigError: The model cannot be trained here.
        CheckpointError: `init` cannot be read, or does not match the model.
    """

    def __init__(self, config: TrainingConfig, processes: Processes, *, init: str | None) -> None:
        self.config = config
        self.dtype = torch.float64 if config.precision == "fp64" else torch.float32
        if self.dtype == torch.float64 and float64_device(processes.device) != processes.device:
            msg = f"precision fp64: device {processes.device} has no 64-bit numbers: pass cpu"
            raise ConfigError(msg)
        torch.manual_seed(config.seed)
        self.model = _start_model(config, init).to(processes.device, self.dtype)
        if config.compile:
            self.model.compile_network()
        self.network: nn.Module = processes.wrap(self.model)
        fused = processes.device.type == "cuda"
        self.optimizer = make_optimizer(self.model, config, fused=fused)
        self.update = Update(self.model, self.optimizer, config)
        self.average = ModelAverage(self.model, decay=config.ema_decay)
        self.statistics = StepStatistics(processes.device)
        self.step = self.validated_step = self.stale_validations = 0
        self.best_score = -math.inf
        self.data: RunData | None = None

    def use_data(self, data: RunData) -> None:
        """Use these data; reset the best score if the validation set differs."""
        if self.data is not None and "valid" in self.data.differences(data):
            self.best_score, self.stale_validations = -math.inf, 0
        self.data = data

    def save(self, path: Path) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: It cannot be written.
        """
        state = {
            "config": asdict(self.config),
            "step": self.step,
            "validated_step": self.validated_step,
            "best_score": self.best_score,
            "stale_validations": self.stale_validations,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.update.scaler.state_dict(),
            "average": self.average.weights,
            "average_updates": self.average.updates,
            "statistics": self.statistics.state(),
            "data": None if self.data is None else self.data.record(),
        }
        save_checkpoint(path, state)

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint.

        Raises:
            CheckpointError: It cannot be read, or does not match the model.
            ConfigError: The run has done more steps than the settings allow.
        """
        state = load_checkpoint(path)
        where = f"resume: checkpoint {path} does not fit this configuration"
        try:
            self._load(state, where)
        except (
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
        ) as error:
            msg = f"{where}: {first_line(error)}"
            raise CheckpointError(msg) from error
        self.data = RunData.from_checkpoint(state.get("data"), path)
        if self.config.steps < self.step:
            msg = (
                f"training setting steps: the run in {path.parent} has done {self.step} steps "
                f"already, got {self.config.steps}: ask for more"
            )
            raise ConfigError(msg)

    def _load(self, state: dict[str, Any], where: str) -> None:
        for weights in (state["model"], state["average"]):
            check_fit(self.model.state_dict(), weights, where=where)
        self.model.load_state_dict(state["model"])
        # The current settings of the optimizer apply, not those in the checkpoint.
        settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        check_optimizer_state(self.optimizer, self.config, where=where)
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)
        self.update.scaler.load_state_dict(state["scaler"])
        for name, weights in self.average.weights.items():
            weights.copy_(state["average"][name])  # into tensors on the model's device
        self.average.updates = int(state["average_updates"])
        self.statistics.load(state["statistics"])
        self.best_score = float(state["best_score"])
        self.step, self.validated_step, self.stale_validations = (
            int(state[key]) for key in ("step", "validated_step", "stale_validations")
        )

    def averaged_model(self) -> SeparationModel:
        """Build the model that has the averaged weights, in float32 and evaluation mode."""
        model = build_model(self.config.family, self.config.model)
        model.to(next(self.model.parameters()).device)
        model.load_state_dict(self.average.weights)
        return model.eval()


def _start_model(config: TrainingConfig, init: str | None) -> SeparationModel:
    model = build_model(config.family, config.model)
    check_losses(config.loss, model.sources)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        msg = f"training settings model: a {config.family} of this form has nothing to be trained"
        raise ConfigError(msg)
    if init is not None:
        initial = resolve_model(init)
        # A model with a base starts from one of its own family, or with any model as its base.
        started = model
        if model.base is not None and initial.family != model.family:
            started = model.base
        weights = initial.state_dict()
        where = f"initial weights {init}: they do not fit the configured model"
        check_fit(started.state_dict(), weights, where=where)
        started.load_state_dict(weights)
    return model.train()
