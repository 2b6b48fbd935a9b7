import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sfisep_core
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.models.sources import check_sources

TINY = TCNConfig(8, 8, num_layers=2, num_stacks=1, norm_groups=2)


def make(**settings: Any) -> SFIConvTasNet:
    torch.manual_seed(0)
    values = {"num_filters": 64, "tcn": TINY, **settings}
    return SFIConvTasNet(SFIConvTasNetConfig(**values)).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decibels(error: Tensor, reference: Tensor) -> float:
    return 10 * math.log10(error.square().sum() / reference.square().sum())


@torch.no_grad()
def test_output_is_the_papers_chain_of_parts() -> None:
    model = make()
    mixture = noise(2, 2, 900)
    latent = torch.relu(model.encoder(mixture.view(4, 1, 900), sample_rate=11025))
    masks = model.masker(latent)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones_like(latent))
    stems = model(mixture, sample_rate=11025)
    for source in range(4):
        expected = model.decoder(masks[:, source] * latent, sample_rate=11025, length=900)
        torch.testing.assert_close(stems[:, source], expected.view(2, 2, 900))
    # Softmax masks share the latent out: the stems add up to the mixture coded and decoded.
    coded = model.decoder(latent, sample_rate=11025, length=900).view(2, 2, 900)
    torch.testing.assert_close(stems.sum(dim=1), coded, rtol=1e-4, atol=1e-6)


FREE = {"trunk": "shared", "mask": "free", "num_filters": 192}


@pytest.mark.parametrize(
    ("filters", "design"),
    [
        ("modulated-gaussian", "frequency"),
        ("modulated-gaussian", "time"),
        ("multi-phase-gammatone", "time"),
    ],
)
@torch.no_grad()
def test_free_masks_start_as_equal_shares_of_the_mixture(filters: str, design: str) -> None:
    model = make(filters=filters, design=design, **FREE)
    model.masker.get_submodule("conv_out").weight.zero_()  # type: ignore[operator]
    time = torch.arange(16000) / 32000
    tones = [440 * 2 ** (i / 3) for i in range(12)]  # up to 5.6 kHz
    waves = [torch.sin(2 * math.pi * f * time + i) for i, f in enumerate(tones)]
    mixture = torch.stack(waves).sum(dim=0).view(1, 1, -1)
    stems = model(mixture, sample_rate=32000)
    for source in range(1, 4):
        torch.testing.assert_close(stems[:, source], stems[:, 0])
    inner, wanted = stems[:, 0, :, 800:-800], mixture[..., 800:-800] / 4
    gain = (inner * wanted).sum() / wanted.square().sum()
    assert gain.item() == pytest.approx(1, abs=0.02)


@torch.no_grad()
def test_mixture_consistent_models_give_exact_sums_at_every_rate() -> None:
    model = make(gain_rule="mixture-consistent", **FREE)
    mixture = noise(1, 2, 4000)
    for sample_rate in (8000, 22050, 48000):
        stems = model(mixture, sample_rate=sample_rate)
        assert decibels(stems.sum(dim=1) - mixture, mixture) < -120


@pytest.mark.parametrize(
    ("rates", "decibels_at_most"),
    [((44100, 32000), -42), ((22050, 32000), -40), ((16000, 32000), -30), ((8000, 32000), -20)],
)
@torch.no_grad()
def test_latent_features_do_not_depend_on_the_rate(
    rates: tuple[int, int], decibels_at_most: float
) -> None:
    model = make(num_filters=192)
    generator = torch.Generator().manual_seed(3)
    hertz, phases = 100 + 3200 * torch.rand(30, 1, generator=generator).double(), torch.rand(30, 1)
    features = []
    for rate in rates:
        time = torch.arange(rate // 4).double() / rate
        tones = torch.sin(2 * math.pi * (hertz * time + phases)).sum(dim=0).float()
        latent = torch.relu(model.encoder(tones.view(1, 1, -1), sample_rate=rate))
        features.append(model.masker(latent)[..., 5:-5])
    assert decibels(features[0] - features[1], features[1]) < decibels_at_most


def test_encoder_phases_are_the_decoders_in_free_models_only() -> None:
    free, published = make(**FREE), make()
    assert torch.equal(free.encoder.filters.phase, free.decoder.filters.phase)
    assert not torch.equal(published.encoder.filters.phase, published.decoder.filters.phase)
    assert "latent_gain" in dict(free.named_buffers())
    assert "latent_gain" not in dict(published.named_buffers())


@pytest.mark.slow
@torch.no_grad()
def test_release_alignment_falls_back_to_exact_where_nothing_is_whole() -> None:
    release, exact = make(alignment="release"), make()
    exact.load_state_dict(release.state_dict())
    mixture = noise(1, 1, 2000)
    for sample_rate, same in ((44100, True), (11025, True), (8000, False), (32000, False)):
        difference = release(mixture, sample_rate=sample_rate) - exact(
            mixture, sample_rate=sample_rate
        )
        assert (difference == 0).all() == same


def test_rates_below_one_sample_a_stride_are_refused() -> None:
    with pytest.raises(ConfigError, match="at 399 Hz"):
        make()(noise(1, 1, 100), sample_rate=399)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": "multi-phase-gammatone", "num_centers": 9}, 'use design="time"'),
        ({"filters": "multi-phase-gammatone", "design": "time"}, "num_filters=64, num_centers=96"),
        ({"num_filters": 0}, "num_filters: expected 1 to 4096, got 0"),
        ({"lowest_hz": 900.0, "highest_hz": 50.0}, "got 64 from 900.0 to 50.0 Hz"),
        ({"stride": 0}, "stride: expected 1 to 8192, got 0"),
        ({"native_rate": 0}, "native_rate: expected 1 to 384000, got 0"),
        ({"tcn": TCNConfig(norm_groups=7)}, "norm_groups = 7"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


@torch.no_grad()
def test_chunks_of_the_small_model_agree_with_their_context() -> None:
    presets = Path(sfisep_core.__file__).parent / "training" / "presets"
    preset = presets / "sfi-conv-tasnet-small.toml"
    settings = tomllib.loads(preset.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    model = build_model(settings["family"], settings["model"]).eval()
    assert model.segments.chunk_invariant
    context = round(model.segments.context_seconds)
    rate = 8000
    mixture = noise(1, 1, (2 * context + 3) * rate)
    mixture[..., : rate // 2] *= 20
    whole = model(mixture, sample_rate=rate)[..., (context + 1) * rate : (context + 2) * rate]
    chunk = model(mixture[..., rate:-rate], sample_rate=rate)
    kept = chunk[..., context * rate : (context + 1) * rate]
    assert decibels(kept - whole + 1e-12, whole) < -60


@pytest.mark.parametrize(
    "sources", [(), ("a", "a"), ("../escape",), ("/absolute",), ("",), (".hidden",), ("a/b",)]
)
def test_sources_that_are_no_plain_names_are_refused(sources: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^sources: expected different names of letters"):
        SFIConvTasNet(SFIConvTasNetConfig(sources=sources))


@pytest.mark.parametrize(
    ("sources", "taken"),
    [
        (("vocals", "residual"), "residual"),
        (("Mixture", "vocals"), "Mixture"),
        (("drums", "no_drums", "bass"), "no_drums"),
    ],
)
def test_sources_do_not_take_the_names_of_other_files(sources: tuple[str, ...], taken: str) -> None:
    with pytest.raises(ConfigError, match=f"^sources: '{taken}' is what this program calls"):
        check_sources(sources)


def test_a_stem_and_its_rest_may_be_all_that_a_model_has() -> None:
    check_sources(("vocals", "no_vocals"))
    with pytest.raises(ConfigError, match="different names"):
        check_sources(("Vocals", "vocals"))


@torch.no_grad()
def test_free_masks_are_bounded() -> None:
    model = make(**FREE)
    output = model.masker.get_submodule("conv_out")
    output.weight.zero_()  # type: ignore[operator]
    mixture = noise(1, 1, 3000)

    def stems(share: float) -> Tensor:
        output.bias.fill_(share - 0.25)  # type: ignore[operator]
        found: Tensor = model(mixture, sample_rate=44100)
        return found

    for sign in (-1.0, 1.0):
        torch.testing.assert_close(stems(300.0 * sign), stems(2.0 * sign))
    assert not torch.allclose(stems(1.9), stems(2.0), rtol=1e-3)
