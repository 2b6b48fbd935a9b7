import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.optimizers import RAdamLookahead, learning_rate_at, make_optimizer

RANGER = TrainingConfig(optimizer="radam-lookahead", betas=(0.95, 0.999), epsilon=1e-5)
ADADELTA = TrainingConfig(optimizer="adadelta", learning_rate=1.0, epsilon=1e-6)


class Layers(nn.Module):
    """A matrix, a bias, and filters whose values have units."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(3, 2)
        self.encoder = nn.ModuleDict({"filters": nn.Linear(4, 2, bias=False)})
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)


def set_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def run(
    config: TrainingConfig, steps: range, model: Layers, optimizer: torch.optim.Optimizer
) -> list[Tensor]:
    """Take steps with the gradients and learning rates of their numbers."""
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(config, step)
        optimizer.zero_grad()
        set_gradients(model, step)
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize(("fused", "name"), [(False, "adamw"), (True, "adamw"), (False, "radam")])
def test_only_matrices_decay(fused: bool, name: str) -> None:
    config = replace(
        RANGER if name == "radam" else TrainingConfig(), learning_rate=0.1, weight_decay=0.5
    )
    model = Layers()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, config, fused=fused)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if key == "linear.weight" else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[key])


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_has_the_settings(fused: bool) -> None:
    config = TrainingConfig(learning_rate=0.1, betas=(0.8, 0.9), epsilon=0.5, weight_decay=0)
    model = Layers()
    before = model.linear.bias.detach().clone()
    optimizer = make_optimizer(model, config, fused=fused)
    assert isinstance(optimizer, torch.optim.AdamW)
    gradient = torch.tensor([1.0, -3.0])
    model.linear.bias.grad = gradient.clone()
    optimizer.step()
    # The first step's moments are the gradient and its square, after correction.
    expected = before - 0.1 * gradient / (gradient.abs() + 0.5)
    torch.testing.assert_close(model.linear.bias.detach(), expected)
    model.linear.bias.grad = 2 * gradient
    optimizer.step()
    mean = (0.8 * 0.2 * gradient + 0.2 * 2 * gradient) / (1 - 0.8**2)
    square = (0.9 * 0.1 + 0.1 * 4) * gradient**2 / (1 - 0.9**2)
    torch.testing.assert_close(
        model.linear.bias.detach(), expected - 0.1 * mean / (square.sqrt() + 0.5)
    )


@pytest.mark.parametrize(("rate", "epsilon"), [(1.0, 1e-6), (0.01, 1.0)])  # Lasagne's, Keras'
def test_adadelta_has_the_settings(rate: float, epsilon: float) -> None:
    # Weight decay is not Adadelta's.
    config = replace(ADADELTA, learning_rate=rate, epsilon=epsilon, rho=0.8, weight_decay=0.5)
    model, other = Layers(), Layers()
    optimizer = make_optimizer(model, config, fused=True)
    reference = torch.optim.Adadelta(other.parameters(), lr=rate, rho=0.8, eps=epsilon)
    before = model.linear.weight.detach().clone()
    for step in range(3):
        set_gradients(model, step)
        set_gradients(other, step)
        optimizer.step()
        reference.step()
        if step == 0:
            # The mean square of the gradient is (1 - rho) g^2, that of the moves is 0.
            gradient = model.linear.weight.grad
            assert gradient is not None
            move = (epsilon / (0.2 * gradient.square() + epsilon)).sqrt() * gradient
            torch.testing.assert_close(model.linear.weight.detach(), before - rate * move)
    for one, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, expected)


def test_fused_adamw_leaves_everything_where_gradients_are_not_finite() -> None:
    # What gates a step on the device: a step with found_inf = 1 is no step.
    results: list[Any] = []
    for gated in (True, False):
        model = Layers()
        optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.1), fused=True)
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        for step in range(8):
            set_gradients(model, step)
            bad = step in (0, 3, 4)
            if bad and not gated:
                continue
            if bad:
                for parameter in model.parameters():
                    parameter.grad = torch.full_like(parameter, math.nan)
            optimizer.found_inf = torch.tensor(float(bad))  # type: ignore[attr-defined]
            optimizer.step()
        results.append([*model.parameters(), *flat(optimizer.state_dict())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def flat(state: dict[str, Any]) -> list[Tensor]:
    """Give the tensors of an optimizer's state."""
    return [tensor for values in state["state"].values() for tensor in values.values()]


def test_lookahead_goes_back_part_of_the_way() -> None:
    # Fast weights between two returns are those of RAdam itself, restarted from the slow ones but
    # with its moments.
    settings: dict[str, Any] = {"lr": 0.1, "betas": (0.95, 0.999), "eps": 1e-5}
    one, other = Layers(), Layers()
    wrapped = RAdamLookahead(one.parameters(), lookahead_steps=3, lookahead_alpha=0.25, **settings)
    plain = torch.optim.RAdam(other.parameters(), **settings)
    slow = [parameter.detach().clone() for parameter in other.parameters()]
    for step in range(1, 13):
        for model in (one, other):
            set_gradients(model, step)
        wrapped.step()
        plain.step()
        if step % 3 == 0:
            for parameter, kept in zip(other.parameters(), slow, strict=True):
                kept += 0.25 * (parameter.detach() - kept)
                parameter.data = kept.clone()
        for found, expected in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_lookahead_of_a_constant_gradient() -> None:
    # RAdam's first steps, up to the fifth, are those of momentum without an adaptive rate: with a
    # constant gradient g each moves by lr g. Two such steps and a return of half: lr g.
    parameter = nn.Parameter(torch.tensor([5.0, -1.0]))
    optimizer = RAdamLookahead([parameter], lookahead_steps=2, lookahead_alpha=0.5, lr=0.1)
    seen = []
    for _ in range(4):
        parameter.grad = torch.tensor([1.0, -2.0])
        optimizer.step()
        seen.append(parameter.detach().clone())
    expected = torch.tensor([[4.9, -0.8], [4.9, -0.8], [4.8, -0.6], [4.8, -0.6]])
    torch.testing.assert_close(torch.stack(seen), expected)


@pytest.mark.parametrize(
    "config", [TrainingConfig(), RANGER, ADADELTA], ids=lambda config: config.optimizer
)
@pytest.mark.parametrize("interruption", range(14))  # every phase of the lookahead's 6 steps, twice
def test_restored_optimizer_goes_on_bit_by_bit(config: TrainingConfig, interruption: int) -> None:
    config = replace(config, warmup_steps=3)
    steps = 16
    model = Layers()
    expected = run(config, range(steps), model, make_optimizer(model, config, fused=False))
    model = Layers()
    optimizer = make_optimizer(model, config, fused=False)
    run(config, range(interruption), model, optimizer)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    model = Layers()
    optimizer = make_optimizer(model, config, fused=False)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    found = run(config, range(interruption, steps), model, optimizer)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_parameters_without_gradients_stay() -> None:
    model = Layers()
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(model, replace(RANGER, lookahead_steps=1), fused=False)
    for _ in range(2):
        model.linear.bias.grad = torch.ones(2)
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"linear.bias"}
    again = make_optimizer(Layers(), RANGER, fused=False)
    again.load_state_dict(optimizer.state_dict())


def test_gradient_scaler_takes_lookahead() -> None:
    # As with fp16: a step with gradients that are not finite is left out, state included.
    model = Layers()
    optimizer = make_optimizer(model, RANGER, fused=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for bad in (False, True, False):
        loss = sum((parameter**2).sum() for parameter in model.parameters())
        optimizer.zero_grad()
        scaler.scale(loss * (math.inf if bad else 1.0)).backward()
        scaler.unscale_(optimizer)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        scaler.step(optimizer)
        scaler.update()
        for parameter, kept in zip(model.parameters(), before, strict=True):
            assert torch.equal(parameter, kept) is bad
    assert {int(values["step"]) for values in optimizer.state.values()} == {2}


# Learning rates

BASE = TrainingConfig(steps=100, learning_rate=2.0, warmup_steps=0)


def rates(config: TrainingConfig, *steps: int) -> list[float]:
    return [learning_rate_at(config, step) for step in steps]


def test_stable_schedule() -> None:
    config = replace(BASE, decay_share=0.25)
    assert rates(config, 0, 50, 75) == [2.0, 2.0, 2.0]
    assert rates(config, 80, 90, 99) == pytest.approx([1.6, 0.8, 0.08])
    assert rates(replace(config, decay_share=0.0), 0, 99) == [2.0, 2.0]
    # A longer run has the same beginning.
    assert rates(replace(config, steps=200), 80) == [2.0]


def test_cosine_schedule() -> None:
    config = replace(BASE, schedule="cosine")
    assert rates(config, 0, 50) == pytest.approx([2.0, 1.0])
    assert rates(config, 25, 75) == pytest.approx([1 + math.sqrt(0.5), 1 - math.sqrt(0.5)])


def test_cosine_with_restarts() -> None:
    config = replace(BASE, schedule="cosine-restarts", restart_steps=40, restart_factor=0.5)
    assert rates(config, 0, 10, 20) == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0])
    assert rates(config, 39)[0] == pytest.approx(1 + math.cos(math.pi * 39 / 40))
    assert rates(config, 40, 60, 80, 100) == pytest.approx([1.0, 0.5, 0.5, 0.25])
    # Nothing of it depends on how many steps there are.
    assert rates(replace(config, steps=7), 40) == rates(config, 40)


@pytest.mark.parametrize("schedule", ["stable", "cosine", "cosine-restarts"])
def test_every_schedule_warms_up(schedule: Any) -> None:
    plain = replace(BASE, schedule=schedule, restart_steps=50)
    warm = replace(plain, warmup_steps=10)
    for step in (0, 4, 9, 10, 60):
        share = min(1.0, (step + 1) / 10)
        assert rates(warm, step) == pytest.approx([share * rates(plain, step)[0]])
