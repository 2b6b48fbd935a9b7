"""What every family of separators promises, run over all families and their kinds of norm."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import DEFAULT_SOURCES, SeparationModel
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.pretrained.native import load_model, save_model

# Small settings of every family, in the variants that differ in what is promised.
_TCN = {
    "bottleneck_channels": 8,
    "hidden_channels": 8,
    "num_layers": 2,
    "num_stacks": 2,
    "norm_groups": 2,
    "norm_window": 21,
}
_OWN = {
    "num_filters": 24,
    "num_centers": 4,
    "trunk": "shared",
    "mask": "free",
    "gain_rule": "mixture-consistent",
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sfi-conv-tasnet as published": ("sfi-conv-tasnet", {"num_filters": 24, "tcn": _TCN}),
    "sfi-conv-tasnet gammatone": (
        "sfi-conv-tasnet",
        {
            "num_filters": 24,
            "num_centers": 4,
            "filters": "multi-phase-gammatone",
            "design": "time",
            "tcn": _TCN,
        },
    ),
    **{
        f"sfi-conv-tasnet {norm}": (
            "sfi-conv-tasnet",
            {**_OWN, "tcn": {**_TCN, "norm": norm}, "design": design},
        )
        for norm, design in (
            ("global", "frequency"),
            ("batch", "frequency"),
            ("frame", "time"),
            ("window", "frequency"),
        )
    },
    "sfi-conv-tasnet batch behind window": (
        "sfi-conv-tasnet",
        {**_OWN, "tcn": {**_TCN, "norm": "batch", "input_norm": "window"}},
    ),
}
# The published layout has a slope where nothing is negative (after the encoder's rectifier), and
# a last layer whose residual output nothing takes.
NEVER_REACHED = {
    "sfi-conv-tasnet": ("masker.prelu_1.weight", "masker.layers.3.residual.weight"),
}
# Parameters of a family's default settings, and of variants, as published.
COUNTS: dict[str, list[tuple[dict[str, Any], int]]] = {
    "sfi-conv-tasnet": [
        ({}, 4_315_628),
        ({"design": "time"}, 4_315_628),
        ({"filters": "multi-phase-gammatone", "design": "time"}, 4_313_620),
    ],
}


def small_model(variant: str) -> SeparationModel:
    torch.manual_seed(0)
    family, config = VARIANTS[variant]
    model = build_model(family, config)
    with torch.no_grad():  # a fresh bias is 0 and a fresh norm the identity: make them matter
        for name, parameter in model.named_parameters():
            if ".filters." not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(variant: str) -> SeparationModel:
    return small_model(variant)


def music(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decibels(error: Tensor, reference: Tensor) -> float:
    """Give the level of an error below a reference, in dB."""
    power = error.double().square().sum() / reference.double().square().sum()
    return -10 * math.log10(max(power.item(), 1e-30))


# Running statistics know one level only; these models take other levels for other music.
LEVEL_BOUND = ("sfi-conv-tasnet batch",)


@pytest.mark.parametrize("level_db", [-20, 20])
@torch.no_grad()
def test_level_of_the_input_does_not_matter(
    model: SeparationModel, variant: str, level_db: int
) -> None:
    mixture, level = music(1, 2, 8000), 10 ** (level_db / 20)
    expected = level * model(mixture, sample_rate=8000)
    error = decibels(model(level * mixture, sample_rate=8000) - expected, expected)
    assert (error > 50) == (variant not in LEVEL_BOUND)


def test_every_family_is_covered() -> None:
    assert {family for family, _ in VARIANTS.values()} == set(FAMILIES) == set(COUNTS)


def test_model_says_what_it_is(model: SeparationModel, variant: str) -> None:
    family, config = VARIANTS[variant]
    assert model.family == family
    assert FAMILIES[family][1] is type(model)
    assert model.sources == DEFAULT_SOURCES
    assert model.native_rate == 32000
    assert model.gain_rule == config.get("gain_rule", "least-squares")
    assert model.segments.chunk_invariant == (config["tcn"].get("norm", "global") != "global")
    assert model.config_dict()["tcn"]["norm_window"] == 21


@pytest.mark.parametrize("sample_rate", [8000, 11025, 32000, 44100])
@torch.no_grad()
def test_output_has_the_length_of_the_input(model: SeparationModel, sample_rate: int) -> None:
    for length in (0, 1, 2, 3, 19, 20, 21, 111, 1000):
        stems = model(music(2, 2, length), sample_rate=sample_rate)
        assert stems.shape == (2, 4, 2, length)
        assert stems.dtype == torch.float32
        assert torch.isfinite(stems).all()


@torch.no_grad()
def test_any_number_of_signals_and_channels(model: SeparationModel) -> None:
    for batch, channels in ((0, 2), (1, 0), (1, 1), (3, 5)):
        stems = model(music(batch, channels, 300), sample_rate=8000)
        assert stems.shape == (batch, 4, channels, 300)


@torch.no_grad()
def test_signals_of_a_batch_do_not_mix(model: SeparationModel) -> None:
    mixture = music(3, 2, 1200) * torch.tensor([1.0, 0.01, 30.0]).view(3, 1, 1)
    together = model(mixture, sample_rate=8000)
    apart = torch.cat([model(signal[None], sample_rate=8000) for signal in mixture])
    for i in range(3):
        assert decibels(together[i] - apart[i], apart[i]) > 100


@torch.no_grad()
def test_channels_do_not_mix(model: SeparationModel) -> None:
    mixture = music(1, 3, 1200) * torch.tensor([1.0, 0.01, 30.0]).view(3, 1)
    together = model(mixture, sample_rate=11025)
    for i in range(3):
        alone = model(mixture[:, [i]], sample_rate=11025)
        assert decibels(together[:, :, [i]] - alone, alone) > 100


@torch.no_grad()
def test_same_input_same_output(model: SeparationModel, variant: str) -> None:
    mixture = music(1, 2, 1200)
    first = model(mixture, sample_rate=44100)
    assert torch.equal(model(mixture, sample_rate=44100), first)
    model(music(1, 2, 700, seed=1), sample_rate=8000)  # leaves nothing behind
    assert torch.equal(model(mixture, sample_rate=44100), first)
    assert torch.equal(small_model(variant)(mixture, sample_rate=44100), first)


@pytest.mark.parametrize("training", [False, True])
def test_silence_gives_silence(model: SeparationModel, training: bool) -> None:
    stems = model.train(training)(torch.zeros(2, 2, 2000), sample_rate=8000)
    assert stems.shape == (2, 4, 2, 2000)
    assert (stems == 0).all()
    stems.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_very_loud_and_very_quiet_signals_stay_finite(model: SeparationModel) -> None:
    for level in (1e-8, 1e-3, 1e4):
        stems = model(level * music(1, 1, 2000), sample_rate=8000)
        assert torch.isfinite(stems).all()


def test_gradient_reaches_every_parameter(model: SeparationModel) -> None:
    stems = model.train()(music(2, 1, 1600), sample_rate=32000)
    weights = music(*stems.shape, seed=1)  # else a symmetric loss could hide what a softmax takes
    (stems * weights).sum().backward()
    unreached = tuple(
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()
    )
    assert unreached == NEVER_REACHED[model.family]
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_gradient_reaches_the_mixture(model: SeparationModel) -> None:
    mixture = music(1, 1, 1600).requires_grad_()
    (model(mixture, sample_rate=8000) * music(1, 4, 1, 1600, seed=1)).sum().backward()
    assert mixture.grad is not None
    assert (mixture.grad != 0).all()


@torch.no_grad()
def test_mixture_consistent_stems_add_up(model: SeparationModel) -> None:
    mixture = music(2, 2, 3000)
    mixture[..., 1000:2000] *= 1e-3
    for sample_rate in (8000, 11025):
        error = mixture - model(mixture, sample_rate=sample_rate).sum(dim=1)
        if model.gain_rule == "mixture-consistent":
            assert decibels(error, mixture) > 100
            quiet = slice(1300, 1700)  # no frame or share there hears the loud parts at 8 kHz
            assert decibels(error[..., quiet], mixture[..., quiet]) > 60
        else:
            assert decibels(error, mixture) < 30


@torch.no_grad()
def test_file_gives_the_model_back(model: SeparationModel, tmp_path: Path) -> None:
    mixture = music(1, 2, 2000)
    expected = model(mixture, sample_rate=22050)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(loaded(mixture, sample_rate=22050), expected)
    save_model(model, tmp_path / "half.safetensors", half=True)
    half = load_model(tmp_path / "half.safetensors")(mixture, sample_rate=22050)
    assert not torch.equal(half, expected)
    assert decibels(half - expected, expected) > 45


# Chunks

SECONDS = 4
CHUNK = slice(1, 3)  # seconds of the chunk, half a second of context on either side
KEPT = slice(1500, 2500)  # milliseconds that are compared


def chunk_agreement(model: SeparationModel, sample_rate: int) -> float:
    """Give in dB how well a chunk with context agrees with the whole signal."""
    mixture = music(1, 1, SECONDS * sample_rate)
    mixture[..., : sample_rate // 2] *= 20  # a loud beginning that the chunk does not hear
    with torch.no_grad():
        whole = model(mixture, sample_rate=sample_rate)
        begin, end = CHUNK.start * sample_rate, CHUNK.stop * sample_rate
        chunk = model(mixture[..., begin:end], sample_rate=sample_rate)
    first, last = (round(ms * sample_rate / 1000) for ms in (KEPT.start, KEPT.stop))
    expected = whole[..., first:last]
    return decibels(chunk[..., first - begin : last - begin] - expected, expected)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100])
def test_chunk_invariance_is_as_promised(model: SeparationModel, sample_rate: int) -> None:
    agreement = chunk_agreement(model, sample_rate)
    if model.segments.chunk_invariant:
        assert agreement > 60
    else:
        assert agreement < 40


# Published sizes and errors


@pytest.mark.parametrize(
    ("family", "config", "count"),
    [(family, config, count) for family, rows in COUNTS.items() for config, count in rows],
)
def test_number_of_parameters_is_the_published_one(
    family: str, config: dict[str, Any], count: int
) -> None:
    with torch.device("meta"):
        model = build_model(family, config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="'wavenet': unknown; expected one of sfi-conv-tasnet"):
        build_model("wavenet", {})


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_settings_are_refused(family: str) -> None:
    with pytest.raises(ConfigError, match=f"{family} model: unknown setting 'depth'"):
        build_model(family, {"depth": 3})


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_must_differ(family: str) -> None:
    for sources, found in ((["a", "a"], "'a', 'a'"), ([], "none")):
        with pytest.raises(ConfigError, match=f"expected different names of .*, got {found}"):
            build_model(family, {"sources": sources})
