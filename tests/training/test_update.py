import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.update import Update

CONFIG = TrainingConfig(clip_norm=1.0)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()


def inputs(seed: int) -> Tensor:
    return torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step(network: nn.Module, update: Update, signal: Tensor) -> tuple[Tensor, Tensor]:
    update.begin()
    with update.autocast():
        loss = network(signal).square().mean()
    update.backward(loss)
    return update.apply()


def snapshot(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return copy.deepcopy({"network": network.state_dict(), "optimizer": optimizer.state_dict()})


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.mark.parametrize("on_device", [False, True])
def test_step_that_is_not_finite_changes_nothing(on_device: bool) -> None:
    """Both ways: asking for the result (CPU), and the gate inside the fused optimizer (GPU)."""
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, fused=on_device)
    update = Update(network, optimizer, CONFIG)
    update._device_type = "cuda" if on_device else "cpu"
    update.autocast = lambda: torch.autocast("cpu", enabled=False)  # type: ignore[method-assign]
    step(network, update, inputs(0))
    before = snapshot(network, optimizer)
    _, finite = step(network, update, inputs(1) * torch.nan)
    assert not finite
    assert same(snapshot(network, optimizer), before)
    _, finite = step(network, update, inputs(2))
    assert finite
    assert not same(snapshot(network, optimizer), before)


def test_optimizer_without_a_gate_gets_zero_gradients() -> None:
    network = small_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    update = Update(network, optimizer, CONFIG)
    update._device_type = "cuda"
    update.autocast = lambda: torch.autocast("cpu", enabled=False)  # type: ignore[method-assign]
    before = snapshot(network, optimizer)
    step(network, update, inputs(1) * torch.nan)
    assert same(snapshot(network, optimizer), before)


def test_gradients_are_clipped_to_the_norm() -> None:
    network = small_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    norm, finite = step(network, Update(network, optimizer, CONFIG), 100 * inputs(0))
    moved = [now - then for now, then in zip(network.parameters(), before, strict=True)]
    assert finite
    assert norm > 1
    distance = torch.stack([m.square().sum() for m in moved]).sum().sqrt().item()
    assert distance == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)]
)
def test_precision_of_the_forward_pass(precision: Any, dtype: torch.dtype | None) -> None:
    network = small_network().float()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    update = Update(network, optimizer, replace(CONFIG, precision=precision))
    with update.autocast():
        assert network[0](inputs(0).float()).dtype == (dtype or torch.float32)  # type: ignore[index]
    before = snapshot(network, optimizer)
    _, finite = step(network, update, inputs(0).float())
    assert finite
    assert not same(snapshot(network, optimizer), before)
