"""What spectrogram families have in common, with networks whose answers are known."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.errors import ConfigError
from sfisep_core.models.spectrogram_model import SpectrogramConfig, SpectrogramModel
from tests.separation.divider import separated

NATIVE = 44100
RATES = (8000, 11025, 22050, 44100, 48000, 96000)
SMALL = STFTConfig(1024, 256)


class Divider(SpectrogramModel):
    """Give every source and channel of the network its share, and note what the network is given.

    With `curved`, the share is multiplied by |X| / (1 + |X|): every frame is changed on its own.
    """

    family = "divider"

    def __init__(
        self,
        shares: list[list[float]],
        *,
        curved: bool = False,
        frame_step: int = 1,
        **settings: Any,
    ) -> None:
        channels: Literal[1, 2] = 1 if len(shares[0]) == 1 else 2
        config = SpectrogramConfig(**{"stft": SMALL, **settings})
        super().__init__(config, channels=channels, chunk_invariant=True, frame_step=frame_step)
        self.network = nn.Linear(1, 1)
        self.shares = nn.Parameter(torch.tensor(shares))
        self.curved = curved
        self.heard: list[Tensor] = []

    def estimate(self, spectra: Tensor) -> Tensor:
        self.heard.append(spectra)
        if self.curved:
            size = spectra.abs()
            spectra = spectra * (size / (1 + size))
        return self.shares[..., None, None] * spectra.unsqueeze(1)


def identity(*, channels: int = 1, **settings: Any) -> Divider:
    return Divider([[0.25] * channels] * 4, **settings).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(hertz: float, *, sample_rate: int) -> Tensor:
    time = torch.arange(sample_rate // 2, dtype=torch.float64) / sample_rate
    return torch.sin(2 * math.pi * hertz * time).float().view(1, 1, -1)


def decibels(error: Tensor, reference: Tensor) -> float:
    return 20 * math.log10(max((error.norm() / reference.norm()).item(), 1e-30))


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "stft", [SMALL, STFTConfig(2048, 1024), STFTConfig(64, 48, padding="zeros")]
)
@torch.no_grad()
def test_stems_sum_to_the_mixture(channels: int, sample_rate: int, stft: STFTConfig) -> None:
    for gain_rule in ("least-squares", "mixture-consistent"):
        model = identity(channels=channels, stft=stft, gain_rule=gain_rule)
        for batch, number, length in (
            (1, 1, 0), (2, 2, 1), (1, 3, 2), (1, 5, 100), (2, 1, 1023), (1, 2, 9001), (0, 2, 50),
            (1, 0, 50),
        ):  # fmt: skip
            mixture = noise(batch, number, length)
            stems = model(mixture, sample_rate=sample_rate)
            assert stems.shape == (batch, 4, number, length)
            assert stems.dtype == torch.float32
            torch.testing.assert_close(stems.sum(dim=1), mixture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1024 * 5 - 1, 1024 * 5, 1024 * 5 + 1])
@pytest.mark.parametrize("sample_rate", [44100, 22050])
@torch.no_grad()
def test_what_is_done_to_spectra_is_not_louder_at_the_end(length: int, sample_rate: int) -> None:
    model = identity(stft=STFTConfig(2048, 1024), beyond="drop")
    model.estimate = lambda spectra: noise(1, 4, *spectra.shape[1:]) + 0j  # type: ignore[method-assign]
    stems = model(noise(1, 1, length), sample_rate=sample_rate)
    assert stems.abs().max() < 8 * stems.std()


@torch.no_grad()
def test_networks_of_one_channel_hear_every_channel_alone() -> None:
    model = Divider([[0.2], [0.8]], sources=("vocals", "other"))
    mixture = noise(2, 3, 1024)
    stems = model(mixture, sample_rate=NATIVE)
    assert model.heard[0].shape == (6, 1, 513, 5)
    torch.testing.assert_close(stems[:, 0], 0.2 * mixture, rtol=0, atol=1e-5)
    torch.testing.assert_close(stems[:, 1], 0.8 * mixture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@torch.no_grad()
def test_networks_of_two_channels_hear_pairs(channels: int) -> None:
    model = Divider([[0.1, 0.3], [0.7, 0.2]], sources=("vocals", "other"))
    mixture = noise(2, channels, 1000)
    stems = model(mixture, sample_rate=NATIVE)
    assert model.heard[0].shape == (2 * math.ceil(channels / 2), 2, 513, 5)
    for channel in range(channels):
        lone = channel == channels - 1 and channels % 2 == 1
        left, vocals, other = model.heard[0][channel // 2], 0.2, 0.45  # means of what both get
        if not lone:
            vocals, other = ((0.1, 0.7), (0.3, 0.2))[channel % 2]
        assert torch.equal(left[0], left[1]) == (lone or channels == 1)
        expected = torch.stack([vocals * mixture[:, channel], other * mixture[:, channel]], dim=1)
        torch.testing.assert_close(stems[:, :, channel], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [44100, 16000])
@torch.no_grad()
def test_signals_of_a_batch_do_not_mix(channels: int, sample_rate: int) -> None:
    model = Divider([[0.25] * channels] * 4, curved=True, gain_rule="mixture-consistent")
    mixture = noise(3, 3, 2500) * torch.tensor([1.0, 0.01, 30.0]).view(3, 1, 1)
    together = model(mixture, sample_rate=sample_rate)
    for i in range(3):
        alone = model(mixture[[i]], sample_rate=sample_rate)
        assert decibels(together[[i]] - alone, alone) < -100


# What the transform cannot hold

LOW, HIGH = 1000, 30000


@torch.no_grad()
def test_what_lies_beyond_the_band_goes_to_other_or_to_all_or_nowhere() -> None:
    low, high = tone(LOW, sample_rate=96000), tone(HIGH, sample_rate=96000)
    inner = slice(5000, -5000)
    for settings, beyond in (
        ({}, [0, 0, 0, 1]),
        ({"sources": ("other", "bass", "drums", "vocals")}, [1, 0, 0, 0]),
        ({"sources": ("a", "b", "c", "d")}, [0.25] * 4),
        ({"beyond": "drop"}, [0] * 4),
    ):
        stems = identity(**settings)(low + high, sample_rate=96000)[0, :, 0, inner]
        expected = 0.25 * low[0, 0, inner] + torch.tensor(beyond)[:, None] * high[0, 0, inner]
        torch.testing.assert_close(stems, expected, rtol=0, atol=2e-4)


@torch.no_grad()
def test_consistent_stems_do_not_share_what_lies_beyond() -> None:
    low, high = tone(LOW, sample_rate=96000), tone(HIGH, sample_rate=96000)
    inner = slice(5000, -5000)
    model = Divider([[0.2], [0.2]], sources=("vocals", "other"), gain_rule="mixture-consistent")
    stems = model(low + high, sample_rate=96000)[0, :, 0]
    torch.testing.assert_close(stems.sum(dim=0), (low + high)[0, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(stems[0, inner], 0.5 * low[0, 0, inner], rtol=0, atol=2e-4)


@torch.no_grad()
def test_nothing_is_added_at_the_native_rate() -> None:
    mixture = noise(1, 2, 3000)
    for beyond in ("other", "drop"):
        stems = Divider([[0.5], [0.1]], sources=("vocals", "other"), beyond=beyond)(
            mixture, sample_rate=NATIVE
        )
        torch.testing.assert_close(stems[:, 1], 0.1 * mixture, rtol=0, atol=1e-5)


@torch.no_grad()
def test_native_models_refuse_other_rates_and_work_resampled() -> None:
    model = identity(rates="native")
    mixture = noise(1, 2, 3000)
    model(mixture, sample_rate=NATIVE)
    with pytest.raises(ConfigError, match=r"divider model at 8000 Hz: it works at 44100 Hz only; .*"
                       "--method resample"):  # fmt: skip
        model(mixture, sample_rate=8000)
    stems = separated(model, mixture[0].numpy(), method="resample", sample_rate=8000)
    assert stems.shape == (4, 2, 3000)


def test_rates_below_a_sample_a_hop_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 173 Hz"):
        identity()(noise(1, 1, 0), sample_rate=172)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match='needs beyond "other"'):
        SpectrogramConfig(gain_rule="mixture-consistent", beyond="drop")
    with pytest.raises(ConfigError, match="expected different names"):
        identity(sources=("a", "a", "b", "c"))


# Segments


@pytest.mark.parametrize(
    ("sample_rate", "frame_step", "expected"),
    [
        (44100, 1, 256),
        (22050, 1, 128),
        (11025, 1, 64),
        (48000, 1, 40960),  # 147 hops
        (44100, 8, 2048),
        (22050, 8, 1024),
        (48000, 7, 40960),  # 21 times 7 hops
    ],
)
def test_segments_start_where_frames_do(sample_rate: int, frame_step: int, expected: int) -> None:
    model = identity(frame_step=frame_step)
    assert model.chunk_alignment(sample_rate) == expected


@pytest.mark.parametrize("sample_rate", [4000, 8000, 32000, 44099, 44101, 96001, 384000])
@pytest.mark.parametrize("stft", [SMALL, STFTConfig(4096, 1024)], ids=["256", "1024"])
@pytest.mark.parametrize(("frame_step", "most"), [(1, 0.002), (8, 0.05), (64, 0.2)])
def test_segments_start_almost_where_frames_do(
    sample_rate: int, frame_step: int, most: float, stft: STFTConfig
) -> None:
    model = identity(frame_step=frame_step, stft=stft)
    alignment, step = model.chunk_alignment(sample_rate), model.stft.hop(sample_rate) * frame_step
    assert alignment <= 2 * sample_rate
    drift = abs(alignment - round(alignment / step) * step) * 20 * sample_rate / alignment
    assert drift <= most * model.stft.hop(sample_rate)  # from a segment of 20 s to the next
    if alignment != step.numerator:
        assert step.numerator > 2 * sample_rate


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8000, 22050, 44101, 48000])
@torch.no_grad()
def test_segments_agree_with_the_whole_signal(sample_rate: int) -> None:
    model = Divider([[1.0]], curved=True, sources=("vocals",), beyond="drop")
    model.normalizes_level = False
    model.gain_rule = "mixture-consistent"  # no gains are fitted; none of the model's own either
    mixture = noise(1, 8 * sample_rate).numpy()
    whole, cut = (
        separated(model, mixture, sample_rate=sample_rate, segment=segment, overlap=0.3)
        for segment in (0, 1)
    )
    assert len(model.heard) > 3
    difference = torch.from_numpy(cut - whole)
    assert decibels(difference, torch.from_numpy(whole)) < -60


def test_gradient_reaches_network_and_mixture() -> None:
    for sample_rate in (NATIVE, 8000):
        model = Divider([[0.2, 0.3], [0.4, 0.5]], sources=("vocals", "other"), curved=True)
        mixture = noise(1, 3, 1600).requires_grad_()
        (model(mixture, sample_rate=sample_rate) * noise(1, 2, 3, 1600, seed=1)).sum().backward()
        assert mixture.grad is not None
        assert (mixture.grad != 0).all()
        assert model.shares.grad is not None
        assert model.shares.grad.all()


@torch.no_grad()
def test_samples_have_32_bits_under_autocast() -> None:
    model, mixture = identity(), noise(1, 2, 3000)
    expected = model(mixture, sample_rate=8000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(mixture, sample_rate=8000), expected)


def test_only_the_network_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled = identity(), []
    monkeypatch.setattr(nn.Module, "compile", lambda *call, **how: compiled.append((call, how)))
    model.compile_network(dynamic=True)
    assert compiled == [((model.network,), {"dynamic": True})]


def test_model_says_what_it_is() -> None:
    model = identity(native_rate=32000, segment_seconds=7, context_seconds=2, normalizes_level=True)
    assert (model.native_rate, model.normalizes_level) == (32000, True)
    assert model.gain_rule == "least-squares"
    assert model.sources == ("vocals", "drums", "bass", "other")
    rule = model.segments
    assert (rule.seconds, rule.context_seconds, rule.chunk_invariant) == (7, 2, True)
    assert model.config_dict()["stft"]["hop"] == 256
