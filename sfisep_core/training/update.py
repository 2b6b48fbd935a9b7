"""The update of a step: mixed precision, clipping, and a gate for what is not finite."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from sfisep_core.training.config import TrainingConfig

# Steps in a row that are not finite, after which a run has diverged.
_MAX_BAD_STEPS = 3
# fp16 loses a step whenever the scale is too high, and halves it: from here ten steps down to 1.
_FIRST_SCALE = 1024.0

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Update:
    """Apply gradients, unless they are not finite, without the host asking the device.

    A step whose gradients are not finite changes nothing that later steps see: not the weights,
    not the running statistics of norms (which its forward pass has touched). An exception are
    optimizers without a fused kernel on GPUs (RAdam, Adadelta): they take a step with gradients of
    zero.

    Args:
        model: What is trained, on its device.
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
        """Steps in a row that are not finite, after which a run has diverged."""
        halvings = round(math.log2(_FIRST_SCALE)) if self.scaler.is_enabled() else 0
        return _MAX_BAD_STEPS + halvings

    def autocast(self) -> torch.autocast:
        """Give the context of the forward pass."""
        return torch.autocast(
            self._device_type, dtype=self._autocast, enabled=self._autocast is not None
        )

    def begin(self) -> None:
        """Forget the last step's gradients; call before the forward pass."""
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
            self.scaler.step(self.optimizer)  # leaves out what is not finite
            self.scaler.update()
        elif self._device_type == "cpu":
            if finite:
                self.optimizer.step()
        else:
            self._gated_step(finite)
        return norm, finite

    def _gated_step(self, finite: Tensor) -> None:
        if self.optimizer.defaults.get("fused"):
            # Fused optimizers leave weights and moments alone where this is 1.
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        else:  # others take a step with gradients of zero
            _clear(self._parameters, ~finite)
        self.optimizer.step()


def _clear(parameters: Iterable[nn.Parameter], where: Tensor) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.masked_fill_(where, 0.0)
