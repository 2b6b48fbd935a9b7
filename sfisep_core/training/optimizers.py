"""Optimizers and the learning rate of every step."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sfisep_core.errors import CheckpointError
from sfisep_core.training.config import TrainingConfig


class RAdamLookahead(torch.optim.RAdam):
    """RAdam with Lookahead: slow weights that follow the fast weights every few steps.

    RAdam updates the fast weights w at each step. Every `lookahead_steps` steps the slow weights v,
    which start at the initial weights, move by v += alpha (w - v), and w is reset to v. The slow
    weights are part of each parameter's state, like RAdam's moments, and the steps are counted by
    RAdam, so restoring the state restores everything.

    Args:
        params: Parameters or groups of them.
        lookahead_steps: Steps between two updates of the slow weights <k>, 1 or more.
        lookahead_alpha: Step size of the slow weights, 0 to 1.
        **settings: Settings of `torch.optim.RAdam`.

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020;
        Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019.
    """

    def __init__(
        self, params: Any, *, lookahead_steps: int, lookahead_alpha: float, **settings: Any
    ) -> None:
        super().__init__(params, **settings)
        self.lookahead_steps = lookahead_steps
        self.lookahead_alpha = lookahead_alpha

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; see `torch.optim.Optimizer.step`."""
        # RAdam initialises only an empty state, so the slow weights are added after its step.
        start = {p: p.detach().clone() for p in self._parameters() if not self.state[p]}
        loss = super().step(closure)
        for parameter in self._parameters():
            state: dict[str, Tensor] = self.state[parameter]
            if parameter in start:
                if not state:
                    continue  # it has had no gradient yet
                state["slow"] = start[parameter]
            if int(state["step"]) % self.lookahead_steps == 0:  # counted on the CPU
                state["slow"].lerp_(parameter, self.lookahead_alpha)
                parameter.copy_(state["slow"])
        return loss

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


def make_optimizer(
    model: nn.Module, config: TrainingConfig, *, fused: bool
) -> torch.optim.Optimizer:
    """Build the optimizer.

    Weight decay applies to matrices only, not to norms, slopes and analog filters (whose values
    have units). It is decoupled from the gradients' moments; Adadelta has no weight decay.

    Args:
        model: The model in training, on its device.
        config: Settings of the run.
        fused: Whether AdamW uses its fused kernel, which changes nothing if its attribute
            `found_inf` is 1. RAdam and Adadelta have no such kernel.

    Returns:
        The optimizer.
    """
    if config.optimizer == "adadelta":
        return torch.optim.Adadelta(
            model.parameters(), lr=config.learning_rate, rho=config.rho, eps=config.epsilon
        )
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and ".filters." not in n]
    kept = [p for n, p in model.named_parameters() if p.dim() <= 1 or ".filters." in n]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if config.optimizer == "radam-lookahead":
        return RAdamLookahead(
            groups,
            lookahead_steps=config.lookahead_steps,
            lookahead_alpha=config.lookahead_alpha,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            decoupled_weight_decay=True,
        )
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=fused or None,
    )


def check_optimizer_state(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, *, where: str
) -> None:
    """Refuse a state that no such optimizer has: its next step would fail, or be nonsense.

    Args:
        optimizer: Made by `make_optimizer`, with a state that was loaded.
        config: As it was made with.
        where: What is wrong otherwise, for the message.

    Raises:
        CheckpointError: Values are missing, unknown, no tensors, of another shape or not finite.
    """
    expected = _state_of_scalar(config)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            if state is None or state == {}:
                continue  # it has had no gradient yet
            if not isinstance(state, dict) or state.keys() != expected.keys():
                msg = f"{where}: the state of its optimizer is none of {config.optimizer}"
                raise CheckpointError(msg)
            for name, of_scalar in expected.items():
                shape = () if of_scalar.dim() == 0 else tuple(parameter.shape)
                value = state[name]
                if not isinstance(value, Tensor) or tuple(value.shape) != shape:
                    msg = f"{where}: {name} of its optimizer: expected a tensor of shape {shape}"
                    raise CheckpointError(msg)
                if not torch.isfinite(value).all():
                    msg = f"{where}: {name} of its optimizer holds values that are not finite"
                    raise CheckpointError(msg)


def _state_of_scalar(config: TrainingConfig) -> dict[str, Tensor]:
    """Return what such an optimizer keeps of a weight of one value; counts have no dimensions."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = make_optimizer(model, config, fused=False)
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    return dict(optimizer.state[model.weight])


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Compute the learning rate of a step.

    With N the number of steps, multiplied by a linear warm-up over the first `warmup_steps`:

    - stable: constant, then linear to zero over the last `decay_share` of the steps
    - cosine: (1 + cos(pi step / N)) / 2
    - cosine-restarts: the same with `restart_steps` for N, repeated, each time starting at
      `restart_factor` times the previous height (Loshchilov and Hutter, "SGDR", ICLR 2017)

    Args:
        config: Settings of the run.
        step: Number of the step, from 0.

    Returns:
        The learning rate.
    """
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        shape = _half_cosine(step / config.steps)
    elif config.schedule == "cosine-restarts":
        restarts, into = divmod(step, config.restart_steps)
        shape = config.restart_factor**restarts * _half_cosine(into / config.restart_steps)
    else:
        left = (config.steps - step) / config.steps
        shape = min(1.0, left / config.decay_share) if config.decay_share else 1.0
    return config.learning_rate * warmup * shape


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
