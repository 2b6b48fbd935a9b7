"""What the losses of stages, and of the band above a rate, hear."""

import math

import torch
from torch import Tensor

from sfisep_core.training.losses import staged_losses


def test_stage_losses_hear_only_the_band_of_their_stage() -> None:
    rate, time = 8000, torch.arange(8000) / 8000
    low, high = (torch.sin(2 * math.pi * f * time)[None, None, None] for f in (300.0, 1500.0))
    heard: dict[int, tuple[Tensor, Tensor]] = {}

    def measure(*, estimates: Tensor, references: Tensor, sample_rate: int) -> Tensor:
        heard[sample_rate] = (estimates, references)
        return (estimates - references).square().mean(dim=(-2, -1))

    reference = low + high
    estimates = torch.cat([low, reference], dim=1)
    total = staged_losses(
        measure, estimates=estimates, references=reference, sample_rate=rate, stage_rates=(1000,)
    )
    estimate, target = heard[1000]
    assert target.shape == (1, 1, 1, 1000)
    # 20 dB and more between the tone that is left and the one that is not.
    kept, lost = target[..., 100:-100].square().mean(), (target - estimate)[..., 100:-100]
    assert lost.square().mean() < 1e-4 * kept
    assert heard[rate][0].shape[-1] == 8000
    assert float(total) < 1e-3
    worse = staged_losses(
        measure,
        estimates=torch.cat([high, reference], dim=1),
        references=reference,
        sample_rate=rate,
        stage_rates=(1000,),
    )
    assert float(worse) > 0.4


def test_losses_above_a_rate_do_not_hear_what_is_below() -> None:
    rate, time = 8000, torch.arange(8000) / 8000
    low, high = (torch.sin(2 * math.pi * f * time)[None, None, None] for f in (300.0, 3000.0))

    def measure(*, estimates: Tensor, references: Tensor, sample_rate: int) -> Tensor:
        assert sample_rate == rate
        return (estimates - references)[..., 200:-200].square().mean(dim=(-2, -1))

    def loss(estimate: Tensor) -> float:
        return float(
            staged_losses(
                measure,
                estimates=estimate,
                references=low + high,
                sample_rate=rate,
                stage_rates=(),
                above_rate=2000,
            )
        )

    assert loss(high) < 1e-3 * loss(low)
    assert loss(low) > 0.4


def test_references_beyond_the_estimates_are_only_in_the_mixture() -> None:
    heard: list[tuple[Tensor, Tensor]] = []

    def measure(*, estimates: Tensor, references: Tensor, sample_rate: int) -> Tensor:
        assert sample_rate == 8000
        heard.append((estimates, references))
        return (estimates - references).square().mean(dim=(-2, -1))

    torch.manual_seed(0)
    stems = torch.randn(2, 3, 1, 800)
    estimates = torch.randn(2, 4, 1, 800, requires_grad=True)  # two stages of two sources
    losses = staged_losses(
        measure, estimates=estimates, references=stems, sample_rate=8000, stage_rates=(8000,)
    )
    assert losses.shape == (2, 2)
    for found, wanted in heard:
        assert found.shape == wanted.shape == (2, 3, 1, 800)
        assert torch.equal(found[:, 2], wanted[:, 2])  # nothing of its loss is to be got
    losses.sum().backward()
    assert estimates.grad is not None
    assert (estimates.grad != 0).all()
