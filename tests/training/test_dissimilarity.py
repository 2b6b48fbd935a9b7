import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.training.dissimilarity import DissimilarityConfig, dissimilarity_loss
from sfisep_core.training.losses import source_weights

SIZE, HOP = 128, 32  # of 16 ms at 8 kHz
SOURCES = ("vocals", "drums", "bass", "other")
# So strong that a wrong term does not go unnoticed.
APART = DissimilarityConfig(alpha=0.05, beta=0.1, gamma=0.3)
PAPER = replace(APART, against="estimates")

Samples = npt.NDArray[np.float64]


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def loss(
    config: DissimilarityConfig,
    estimates: Tensor,
    references: Tensor,
    sources: Sequence[str] = SOURCES,
) -> Tensor:
    return dissimilarity_loss(
        config,
        estimates=estimates,
        references=references,
        sample_rate=8000,
        window_seconds=0.016,
        sources=sources,
    )


def magnitudes(signals: Tensor) -> Samples:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    frames = np.lib.stride_tricks.sliding_window_view(signals.numpy(), SIZE, axis=-1)[..., ::HOP, :]
    return np.abs(np.fft.rfft(frames * window))


def sq(a: Samples, b: Samples) -> float:
    return float(np.sum((a - b) ** 2))


def published_program(e: Samples, s: Samples) -> float:
    """Give what the authors' program minimises, before its absolute value."""
    alpha, beta, beta_voc = APART.alpha, APART.beta, APART.gamma
    (v, d, b, _), (voc, dru, bas, oth) = e, s
    return (
        sq(v, voc) + sq(b, bas) + sq(d, dru)
        - beta * (sq(b, oth) + sq(d, oth))
        - beta_voc * sq(v, oth)
        - alpha * (sq(v, bas) + sq(v, dru) + sq(b, voc) + sq(b, dru) + sq(d, voc) + sq(d, bas))
    )  # fmt: skip


def published_paper(e: Samples, s: Samples) -> float:
    """Give what the paper, and the program for Keras, minimises."""
    alpha, beta, gamma = APART.alpha, APART.beta, APART.gamma
    (v, d, b, o), (voc, dru, bas, oth) = e, s
    fit = sq(v, voc) + sq(d, dru) + sq(b, bas)
    different = sum(sq(one, other) for one, other in itertools.combinations((v, d, b, o), 2))
    return fit - alpha * different - beta * (sq(b, oth) + sq(d, oth)) - gamma * sq(v, oth)


@pytest.mark.parametrize("domain", ["magnitude", "waveform"])
@pytest.mark.parametrize(
    ("config", "published"), [(APART, published_program), (PAPER, published_paper)]
)
def test_sum_over_sources_is_the_published_total(
    config: DissimilarityConfig, published: object, domain: str
) -> None:
    references, estimates = noise(3, 4, 2, 900), noise(3, 4, 2, 900, seed=1)
    found = loss(replace(config, domain=domain), estimates, references)  # type: ignore[arg-type]
    assert found.shape == (3, 4)
    view = magnitudes if domain == "magnitude" else np.asarray
    for example in range(3):
        e, s, x = (view(signals[example]) for signals in (estimates, references, references.sum(1)))
        total = published(e, s)  # type: ignore[operator]
        assert found[example].sum().item() == pytest.approx(total / np.sum(x**2), rel=1e-10)
    # In any order of the sources.
    order = [2, 3, 0, 1]
    names = [SOURCES[i] for i in order]
    shuffled = loss(
        replace(config, domain=domain),  # type: ignore[arg-type]
        estimates[:, order],
        references[:, order],
        names,
    )
    torch.testing.assert_close(shuffled, found[:, order])


def test_terms_belong_to_the_source_of_their_estimate() -> None:
    references, estimates = noise(1, 4, 1, 900), noise(1, 4, 1, 900, seed=1)
    before = loss(APART, estimates, references)
    changed = estimates.clone()
    changed[:, 1] *= 2
    assert (loss(APART, changed, references) != before).tolist() == [[False, True, False, False]]
    assert before[0, 3] == 0  # whatever the estimate of "other"
    # Each of a pair of estimates has half of their distance.
    waveform = replace(PAPER, domain="waveform", beta=0.0, gamma=0.0)
    found = loss(waveform, estimates, references)
    energy = references.sum(1).square().sum()
    for i in range(4):
        distances = [(estimates[0, i] - estimates[0, j]).square().sum() for j in range(4)]
        fit = (estimates[0, i] - references[0, i]).square().sum() if i < 3 else 0.0
        expected = (fit - 0.05 / 2 * sum(distances)) / energy
        torch.testing.assert_close(found[0, i], expected)


def test_sources_of_other_names() -> None:
    references, estimates = noise(1, 3, 1, 900), noise(1, 3, 1, 900, seed=1)
    config = replace(APART, domain="waveform")
    energy = references.sum(1).square().sum()

    def distance(i: int, j: int) -> Tensor:
        return (estimates[0, i] - references[0, j]).square().sum() / energy

    # None is called "other": all are fitted, and alpha is for all pairs.
    piano, guitar, speech = loss(config, estimates, references, ("piano", "guitar", "speech"))[0]
    torch.testing.assert_close(piano, distance(0, 0) - 0.05 * (distance(0, 1) + distance(0, 2)))
    torch.testing.assert_close(guitar, distance(1, 1) - 0.05 * (distance(1, 0) + distance(1, 2)))
    torch.testing.assert_close(speech, distance(2, 2) - 0.05 * (distance(2, 0) + distance(2, 1)))
    # One is, and gamma is for vocals alone.
    piano, other, vocals = loss(config, estimates, references, ("piano", "other", "vocals"))[0]
    torch.testing.assert_close(piano, distance(0, 0) - 0.1 * distance(0, 1) - 0.05 * distance(0, 2))
    assert other == 0
    torch.testing.assert_close(
        vocals, distance(2, 2) - 0.3 * distance(2, 1) - 0.05 * distance(2, 0)
    )


@pytest.mark.parametrize("config", [APART, PAPER], ids=["references", "estimates"])
def test_good_estimates_cost_less_than_nothing_and_still_get_better(
    config: DissimilarityConfig,
) -> None:
    # The absolute value of the published programs would turn the descent round here.
    config = replace(config, domain="waveform")
    references = noise(1, 4, 1, 900)
    estimates = (references + 0.01 * noise(1, 4, 1, 900, seed=1)).requires_grad_()
    cost = loss(config, estimates, references).sum()
    assert cost < 0
    (gradient,) = torch.autograd.grad(cost, estimates)
    with torch.no_grad():
        assert loss(config, estimates - gradient, references).sum() < cost


def test_silent_sources_that_are_left_out_take_their_terms_along() -> None:
    references, estimates = noise(1, 4, 1, 900), noise(1, 4, 1, 900, seed=1).requires_grad_()
    references[0, 2] = 0
    weights = source_weights(references, mask_silent=True)
    assert weights.tolist() == [[1, 1, 0, 1]]
    config = replace(APART, domain="waveform")
    (gradient,) = torch.autograd.grad(
        (loss(config, estimates, references) * weights).sum(), estimates
    )
    assert gradient.flatten(2).any(dim=-1).tolist() == [[True, True, False, False]]
    # Between estimates the other one's half of every pair stays.
    paper = replace(PAPER, domain="waveform")
    (gradient,) = torch.autograd.grad(
        (loss(paper, estimates, references) * weights).sum(), estimates
    )
    others = estimates.detach()[0, [0, 1, 3]].sum(0) - 3 * estimates.detach()[0, 2]
    expected = 0.05 * others / references.sum(1).square().sum()
    torch.testing.assert_close(gradient[0, 2], expected)


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_impossible_weights_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as raised:
        DissimilarityConfig(**{name: value})  # type: ignore[arg-type]
    default = getattr(DissimilarityConfig(), name)
    assert str(raised.value) == (
        f"training setting dissimilarity.{name}: expected at least 0 and below 1, got {value}: "
        f"leave it out for the default, {default}"
    )
