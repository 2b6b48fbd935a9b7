"""The update of a step: mixed precision, gradient clipping, and skipping non-finite gradients."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from sfisep_core.training.config import TrainingConfig

# Number of non-finite steps in a row after which a run counts as diverged.
_MAX_BAD_STEPS = 3
# fp16 skips a step whenever the scale is too high, and halves it: ten such steps reach 1.
_FIRST_SCALE = 1024.0

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Update:
    """Apply gradients unless they are not finite, without synchronising with the device.

    A step whose gradients are not finite changes neither the weights nor the running statistics of
    norms (which its forward pass has modified). Optimizers without a fused kernel on GPUs (RAdam,
    Adadelta) are an exception: they do a step with zero gradients.

    Args:
        model: The model in training, on its device.
        optimizer: Its optimizer.
        config: Precision and clipping.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainingConfig
    ) -> None:
        self.optimizer = optimizer
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._buffers = list(model.buffers())
        self._saved: list[Tensor] = []
        self._clip_norm = config.clip_norm
        device = self._parameters[0].device
        self._device_type = device.type
        self._autocast = _AUTOCAST.get(config.precision)
        self.scaler = GradScaler(
            device.type, init_scale=_FIRST_SCALE, enabled=config.precision == "fp16"
        )

    @property
    def max_bad_steps(self) -> int:
        """Number of non-finite steps in a row after which a run counts as diverged."""
        halvings = round(math.log2(_FIRST_SCALE)) if self.scaler.is_enabled() else 0
        return _MAX_BAD_STEPS + halvings

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the forward pass."""
        return torch.autocast(
            self._device_type, dtype=self._autocast, enabled=self._autocast is not None
        )

    def begin(self) -> None:
        """Clear the last step's gradients; call before the forward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        self._saved = [buffer.clone() for buffer in self._buffers]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss (scaled for fp16)."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def apply(self) -> tuple[Tensor, Tensor]:
        """Update the weights, unless a gradient is not finite.

        Returns:
            The gradient's norm before clipping and whether the update counted, both on the device.
        """
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        finite = torch.isfinite(norm)
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(torch.where(finite, buffer, saved))
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # skips non-finite gradients
            self.scaler.update()
        elif self._device_type == "cpu":
            if finite:
                self.optimizer.step()
        else:
            self._gated_step(finite)
        return norm, finite

    def _gated_step(self, finite: Tensor) -> None:
        if self.optimizer.defaults.get("fused"):
            # Fused optimizers do not change weights and moments if this is 1.
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        else:  # others do a step with zero gradients
            _clear(self._parameters, ~finite)
        self.optimizer.step()


def _clear(parameters: Iterable[nn.Parameter], where: Tensor) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.masked_fill_(where, 0.0)
