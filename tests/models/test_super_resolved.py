"""Separation at a low rate, and restoration of the full band."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.restorer import Restorer, RestorerConfig
from sfisep_core.models.contract import GainRule, SegmentRule, SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.models.super_resolved import SuperResolvedConfig, SuperResolvedSeparator

LOW, FULL = 8000, 32000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Told(SeparationModel):
    """A separator that is told what to say, times a scale for every source."""

    family = "told"
    sources = ("a", "b")
    native_rate = LOW
    normalizes_level = False
    segments = SegmentRule(seconds=4, context_seconds=0.5, chunk_invariant=True)

    def __init__(self, stems: Tensor, gain_rule: GainRule, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.stems = stems
        self.gain_rule = gain_rule
        self.scales = torch.tensor(scales)[:, None, None]
        self.seen: list[tuple[int, int]] = []

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        self.seen.append((mixture.shape[-1], sample_rate))
        return self.scales * self.stems.expand(len(mixture), -1, -1, -1)

    def config_dict(self) -> dict[str, Any]:
        return {}


def bursts(rate: int, seconds: float = 2.0) -> Tensor:
    """Two sources that take turns, each with its own noise up to the highest frequencies."""
    length = round(rate * seconds)
    turns = torch.arange(length) % (rate // 2) < rate // 4
    loud = noise(2, 1, length)
    return torch.stack([loud[0] * turns, loud[1] * ~turns])  # (S, C, T)


def with_oracle(
    stems: Tensor, gain_rule: GainRule = "mixture-consistent", scales: tuple[float, ...] = (1, 1)
) -> SuperResolvedSeparator:
    """Put the share restorer on a separator that knows the stems' low band."""
    from sfisep_core.audio.resample import sinc_resample

    low = sinc_resample(stems, orig_rate=FULL, target_rate=LOW)
    return SuperResolvedSeparator.around(
        Told(low[None], gain_rule, scales), low_rate=LOW, restorer=None
    )


def sdr(estimate: Tensor, reference: Tensor) -> float:
    error = (estimate - reference).square().sum() / reference.square().sum()
    return float(-10 * math.log10(error))


@torch.no_grad()
def test_oracle_and_shares_beat_plain_upsampling() -> None:
    from sfisep_core.audio.resample import limit_band

    stems = bursts(FULL)
    model = with_oracle(stems)
    found = model(stems.sum(dim=0)[None], sample_rate=FULL)[0]
    plain = limit_band(stems, sample_rate=FULL, limit=LOW)
    for source in range(2):
        # A quarter of white noise is below 4 kHz: what is lost is louder than what is kept.
        assert sdr(plain[source], stems[source]) < 2
        assert sdr(found[source], stems[source]) > 8


@pytest.mark.parametrize("rule", ["mixture-consistent", "least-squares"])
@torch.no_grad()
def test_stems_add_up_to_the_mixture(rule: GainRule) -> None:
    stems = bursts(FULL)
    mixture = stems.sum(dim=0)[None]
    found = with_oracle(stems, rule)(mixture, sample_rate=FULL)
    torch.testing.assert_close(found.sum(dim=1), mixture, atol=1e-4, rtol=0)


@torch.no_grad()
def test_scale_of_a_least_squares_separator_does_not_matter() -> None:
    stems = bursts(FULL)
    mixture = stems.sum(dim=0)[None]
    plain = with_oracle(stems, "least-squares")(mixture, sample_rate=FULL)
    scaled = with_oracle(stems, "least-squares", (30.0, -0.01))(mixture, sample_rate=FULL)
    torch.testing.assert_close(scaled, plain, atol=1e-4, rtol=0)
    silent = with_oracle(stems, "least-squares", (1.0, 0.0))(mixture, sample_rate=FULL)
    assert silent.isfinite().all()


@torch.no_grad()
def test_separator_works_at_the_low_rate_whatever_the_mixture_has() -> None:
    separator = Told(noise(1, 2, 1, LOW), "mixture-consistent", (1, 1))
    model = SuperResolvedSeparator.around(separator, low_rate=LOW, restorer=None)
    for rate in (4000, 8000, 11025, 22050, 44100, 48000):
        assert model(noise(1, 1, rate), sample_rate=rate).shape == (1, 2, 1, rate)
    assert separator.seen == 6 * [(LOW, LOW)]


@torch.no_grad()
def test_network_is_the_shares_before_training() -> None:
    stems, mixture = noise(2, 3, 4000), noise(2, 4000, seed=1)
    torch.manual_seed(0)
    trained = Restorer(RestorerConfig(widths=(3, 4, 3)), num_sources=3)
    shares = Restorer(RestorerConfig(network=False), num_sources=3)
    found, expected = (r(stems, mixture, sample_rate=FULL, low_rate=LOW) for r in (trained, shares))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_share_is_of_the_upper_low_band() -> None:
    time = torch.arange(FULL) / FULL
    bass, lead, high = (torch.sin(2 * math.pi * f * time) for f in (200.0, 3000.0, 9000.0))
    stems = torch.stack([10 * bass, lead])[None]
    restorer = Restorer(RestorerConfig(network=False), num_sources=2)
    mixture = stems.sum(dim=1) + high
    added = restorer(stems, mixture, sample_rate=FULL, low_rate=LOW)[0]
    middle = slice(4000, -4000)
    assert sdr(added[1, middle], high[middle]) > 30
    assert added[0, middle].square().mean() < 1e-3 * high.square().mean()


@pytest.mark.parametrize("network", [True, False])
@pytest.mark.parametrize("length", [1, 7, 1000])
def test_silence_is_finite(length: int, network: bool) -> None:
    torch.manual_seed(0)
    restorer = Restorer(RestorerConfig(network=network, widths=(3, 4, 3)), num_sources=3)
    some = noise(1, length)
    cases = [
        (torch.zeros(1, 3, length), torch.zeros(1, length)),
        (torch.zeros(1, 3, length), some),
        (torch.cat([torch.zeros(1, 2, length), some[None]], dim=1), some),
    ]
    for stems, mixture in cases:
        added = restorer(stems, mixture, sample_rate=FULL, low_rate=LOW)
        assert added.shape == (1, 3, length)
        assert added.isfinite().all()
        torch.testing.assert_close(added.sum(dim=1), mixture - stems.sum(dim=1))
        if network:
            added.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in restorer.parameters())


def test_separator_stays_as_it_is_while_training() -> None:
    settings = {
        "separator": {
            "config": {
                "num_filters": 16,
                "tcn": {"bottleneck_channels": 4, "hidden_channels": 4, "norm": "batch"},
            }
        },
        "restorer": {"widths": [3, 4, 3]},
    }
    model = build_model("super-resolved", settings).train()
    assert isinstance(model, SuperResolvedSeparator)
    assert model.training
    assert not any(module.training for module in model.separator.modules())
    before = {name: value.clone() for name, value in model.separator.state_dict().items()}
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    model(noise(1, 1, 4000), sample_rate=FULL).square()[:, 0].sum().backward()
    optimizer.step()
    for name, value in model.separator.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.restorer.network is not None
    assert model.restorer.network.convs[-1].weight.any()  # has moved from 0


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="low_rate of 1 to 31999 Hz"):
        SuperResolvedConfig(low_rate=32000)
    with pytest.raises(ConfigError, match="not super-resolved itself"):
        build_model("super-resolved", {"separator": {"family": "super-resolved"}})
    with pytest.raises(ConfigError, match="works at 16000 Hz only"):
        build_model(
            "super-resolved",
            {"separator": {"family": "conv-tasnet", "config": {"native_rate": 16000}}},
        )(torch.zeros(1, 1, 400), sample_rate=32000)
    with pytest.raises(ConfigError, match="three widths"):
        RestorerConfig(widths=(1,))
    with pytest.raises(ConfigError, match="window_seconds: expected above 0 and at most 1"):
        RestorerConfig(window_seconds=0)
