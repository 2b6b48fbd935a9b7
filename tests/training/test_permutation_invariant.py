"""Permutation-invariant SI-SNR against numpy, order by order."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sfisep_core.training.permutation_invariant import pit_si_snr_loss


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def si_snr_db(estimate: np.ndarray, reference: np.ndarray) -> float:
    """One pair, shape (channel, time), from the angle between both instead of a residual."""
    e, s = (x - x.mean(axis=1, keepdims=True) for x in (estimate, reference))
    cosine = np.vdot(e, s) / math.sqrt(np.vdot(e, e) * np.vdot(s, s))
    return 10 * math.log10(cosine**2 / (1 - cosine**2))


def brute_force(estimates: np.ndarray, references: np.ndarray) -> list[float]:
    """One example, shape (source, channel, time): losses of the best order."""
    found = []
    for order in itertools.permutations(range(len(references))):
        pairs = zip(order, references, strict=True)
        found.append([-si_snr_db(estimates[n], reference) for n, reference in pairs])
    return min(found, key=sum)


@pytest.mark.parametrize("sources", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 2])
def test_same_as_trying_every_order(sources: int, channels: int) -> None:
    references = noise(6, sources, channels, 400) + 0.3
    # Some of everything, so that the best order is none that an obvious rule would find.
    blend = torch.rand(6, sources, sources, generator=torch.Generator().manual_seed(2)).double()
    estimates = torch.einsum("bij,bjct->bict", blend, references)
    estimates = 3 * estimates + 0.2 * noise(6, sources, channels, 400, seed=1) - 2.0
    losses = pit_si_snr_loss(estimates=estimates, references=references)
    assert losses.shape == (6, sources)
    for example in range(6):
        expected = brute_force(estimates[example].numpy(), references[example].numpy())
        assert losses[example].tolist() == pytest.approx(expected, abs=1e-6)


def test_order_of_the_estimates_does_not_matter() -> None:
    references = noise(4, 3, 1, 500)
    estimates = references + 0.4 * noise(4, 3, 1, 500, seed=1)
    expected = pit_si_snr_loss(estimates=estimates, references=references)
    for order in itertools.permutations(range(3)):
        moved = estimates[:, list(order)].clone().requires_grad_()
        losses = pit_si_snr_loss(estimates=moved, references=references)
        torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    # Each example has an order of its own.
    mixed = torch.stack([estimates[0], estimates[1, [2, 0, 1]], estimates[2, [1, 0, 2]]])
    losses = pit_si_snr_loss(estimates=mixed, references=references[:3])
    torch.testing.assert_close(losses, expected[:3], rtol=1e-12, atol=0)


def test_losses_are_those_of_the_references() -> None:
    references = noise(1, 2, 1, 1000)
    spoilt = references + torch.tensor([0.1, 1.0])[None, :, None, None] * noise(
        1, 2, 1, 1000, seed=1
    )
    first, second = pit_si_snr_loss(estimates=spoilt.flip(1), references=references)[0].tolist()
    assert first == pytest.approx(-20, abs=1)
    assert second == pytest.approx(0, abs=1)


def test_what_is_good_enough_teaches_nothing() -> None:
    references = noise(3, 2, 1, 4000)
    # -40 dB; -50 and -16, whose mean is beyond the threshold; -20.
    levels = torch.tensor([[0.01, 0.01], [0.00316, 0.158], [0.1, 0.1]], dtype=torch.float64)
    distortion = levels[..., None, None] * noise(3, 2, 1, 4000, seed=1)
    estimates = (references + distortion).requires_grad_()
    losses = pit_si_snr_loss(estimates=estimates, references=references)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert losses[:2].flatten().tolist() == [-30.0] * 4
    assert losses[2].tolist() == pytest.approx([-20, -20], abs=0.5)
    assert estimates.grad is not None
    assert not estimates.grad[:2].any()
    assert estimates.grad[2].abs().sum() > 0


def test_single_sources_may_pass_the_threshold() -> None:
    references = noise(1, 2, 1, 4000)
    levels = torch.tensor([0.01, 0.5], dtype=torch.float64)[None, :, None, None]
    losses = pit_si_snr_loss(
        estimates=references + levels * noise(1, 2, 1, 4000, seed=1), references=references
    )
    assert losses[0].tolist() == pytest.approx([-40, -6], abs=0.5)


def test_silence() -> None:
    references = noise(1, 2, 1, 1000)
    references[:, 1] = 0
    estimates = (references + 0.1 * noise(1, 2, 1, 1000, seed=1)).requires_grad_()
    losses = pit_si_snr_loss(estimates=estimates, references=references)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert losses[0].tolist() == pytest.approx([-20, 80], abs=0.5)
    assert estimates.grad is not None
    assert torch.isfinite(estimates.grad).all()
    zeros = torch.zeros(1, 2, 1, 1000).requires_grad_()
    pit_si_snr_loss(estimates=zeros, references=torch.zeros(1, 2, 1, 1000)).sum().backward()  # type: ignore[no-untyped-call]
    assert zeros.grad is not None
    assert not zeros.grad.any()
