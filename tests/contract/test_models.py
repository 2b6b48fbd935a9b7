"""What every family of separators promises, run over all families and their kinds of norm."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.composite import CompositeModel
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.hdemucs import HDemucs
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.models.scnet import SCNet
from sfisep_core.models.sfsrnet import SFSRNet
from sfisep_core.models.sources import DEFAULT_SOURCES
from sfisep_core.models.spectrogram_model import SpectrogramModel
from sfisep_core.models.spleeter import Spleeter
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.pretrained.model_files import load_model, save_model
from tests.separation.divider import separated

pytestmark = pytest.mark.slow

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
_SPECTRA = {
    "native_rate": 32000,
    "stft": {"n_fft": 128, "hop": 64, "scale": "ortho"},
    "context_seconds": 1,
    "normalizes_level": False,
}
_AUTOENCODER = {
    "frames": 8,
    "kernel_frames": 3,
    "num_vertical": 6,
    "num_horizontal": 5,
    "num_features": 16,
}
_TIME = {"native_rate": 32000, "num_filters": 24, "kernel_size": 16}
_PATHS = {
    "chunk_frames": 20,
    "num_blocks": 2,
    "intra_layers": 1,
    "inter_layers": 1,
    "num_heads": 2,
    "hidden_features": 16,
}
_TFC = {"num_blocks": 5, "channels": 4, "num_layers": 2, "min_units": 4, "bias": True}
_PATCHES = {
    **_SPECTRA,
    "sources": list(DEFAULT_SOURCES),
    "num_bins": 40,
    "patch_frames": 64,
    "patch_overlap": 14,
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
    "deepconvsep": ("deepconvsep", {**_SPECTRA, "network": _AUTOENCODER, "overlap": 4}),
    "deepconvsep stereo": (
        "deepconvsep",
        {
            **_SPECTRA,
            "network": {**_AUTOENCODER, "channels": 2, "tied": False, "activation": "abs"},
            "overlap": 4,
        },
    ),
    "unet": ("unet", {**_SPECTRA, "network": {"channels": [2, 3, 4]}}),
    "unet conditioned": (
        "unet",
        {
            **_SPECTRA,
            "network": {
                "channels": [2, 3, 4],
                "control": "dense",
                "film": "complex",
                "control_widths": [4, 6, 8],
            },
        },
    ),
    "tfc-unet": ("tfc-unet", {**_SPECTRA, "network": _TFC, "channels": 1}),
    "tfc-unet stereo mask": ("tfc-unet", {**_SPECTRA, "network": _TFC, "output": "mask"}),
    "tfc-unet lasaft": (
        "tfc-unet",
        {
            **_SPECTRA,
            "network": {**_TFC, "modulation": "gpocm", "across": "lasaft", "affine": True},
            "channels": 1,
        },
    ),
    **{
        f"spleeter {masks}": (
            "spleeter",
            {
                **_PATCHES,
                "masks": masks,
                "above": above,
                "network": {"channels": [2, 3, 4], "encoder_activation": activation},
            },
        )
        for masks, above, activation in (
            ("ratio", "rest", "leaky-relu"),
            ("softmax", "average", "elu"),
        )
    },
    "spleeter side by side": (
        "spleeter",
        {
            **_PATCHES,
            "patches": "published",
            "above": "top-band",
            "network": {"channels": [2, 3, 4], "decoder_activation": "elu"},
        },
    ),
    "scnet": (
        "scnet",
        {
            **_SPECTRA,
            "stft": {"n_fft": 128, "hop": 32, "window": "rectangular", "scale": "ortho"},
            "network": {"channels": [4, 6], "compression": 2, "num_layers": 2, "expansion": 2},
        },
    ),
    "hdemucs": ("hdemucs", {"native_rate": 32000, "channels": 4}),
    "conv-tasnet": ("conv-tasnet", {**_TIME, "tcn": _TCN}),
    "conv-tasnet frame": (
        "conv-tasnet",
        {
            **_TIME,
            "tcn": {**_TCN, "norm": "frame"},
            "gain_rule": "mixture-consistent",
        },
    ),
    "sepformer": ("sepformer", {**_TIME, "network": _PATHS}),
    "sfsrnet": (
        "sfsrnet",
        {
            **_TIME,
            "network": _PATHS,
            "stage_rates": [8000, 32000],
            "super_resolution": {"widths": [3, 4, 3]},
        },
    ),
    "super-resolved": (
        "super-resolved",
        {
            "separator": {
                "family": "sfi-conv-tasnet",
                "config": {**_OWN, "tcn": {**_TCN, "norm": "window"}},
            },
            "restorer": {"widths": [3, 4, 3]},
        },
    ),
    "super-resolved by shares": (
        "super-resolved",
        {
            "separator": {
                "family": "conv-tasnet",
                "config": {**_TIME, "native_rate": 8000, "tcn": _TCN},
            },
            "restorer": {"network": False},
        },
    ),
    "cascade": (
        "cascade",
        {
            "native_rate": 32000,
            "stages": [
                {
                    "family": "spleeter",
                    "config": {
                        **_PATCHES,
                        "sources": ["vocals", "accompaniment"],
                        "masks": "complement",
                        "network": {"channels": [2, 3, 4]},
                    },
                    "keep": ["vocals"],
                },
                {
                    "family": "sfi-conv-tasnet",
                    "config": {
                        **_OWN,
                        "tcn": {**_TCN, "norm": "window"},
                        "normalizes_level": False,
                    },
                    "keep": ["drums", "bass", "other"],
                },
            ],
        },
    ),
    # The second stage wants levels and gains of its own, and has no source for the rest.
    "cascade without rest": (
        "cascade",
        {
            "native_rate": 32000,
            "stages": [
                {
                    "family": "unet",
                    "config": {**_SPECTRA, "network": {"channels": [2, 3, 4]}},
                    "keep": ["vocals", "other"],
                },
                {
                    "family": "sfi-conv-tasnet",
                    "config": {"num_filters": 24, "sources": ["drums", "bass"], "tcn": _TCN},
                    "keep": ["bass", "drums"],
                },
            ],
        },
    ),
    # The first hears channels in pairs.
    "ensemble": (
        "ensemble",
        {
            "native_rate": 32000,
            "members": [
                {
                    "family": "spleeter",
                    "config": {
                        **_PATCHES,
                        "masks": "joint",
                        "network": {"channels": [2, 3, 4]},
                    },
                },
                {
                    "family": "sfi-conv-tasnet",
                    "config": {
                        **_OWN,
                        "tcn": {**_TCN, "norm": "window"},
                        "normalizes_level": False,
                    },
                    "weight": 2.0,
                },
            ],
        },
    ),
}
# These work at the rate of their training alone.
RATE_BOUND = ("hdemucs", "conv-tasnet", "sepformer", "sfsrnet")
# These hear channels 0 and 1 together, 2 and 3, and so on.
STEREO = (
    *("deepconvsep stereo", "tfc-unet stereo mask"),
    *("spleeter ratio", "spleeter softmax", "spleeter side by side"),
    *("cascade", "ensemble"),
    *("scnet", "hdemucs"),
)
# The published layout has a slope where nothing is negative (after the encoder's rectifier), and
# a last layer whose residual output nothing takes.
# torchaudio's module has a norm in the layer that is a convolution alone.
NEVER_REACHED = {
    "hdemucs": ("network.time_encoder.4.norm1.weight", "network.time_encoder.4.norm1.bias"),
    "sfi-conv-tasnet": ("masker.prelu_1.weight", "masker.layers.3.residual.weight"),
    "cascade": ("stages.1.masker.prelu_1.weight", "stages.1.masker.layers.3.residual.weight"),
    "ensemble": ("members.1.masker.prelu_1.weight", "members.1.masker.layers.3.residual.weight"),
}
# Parameters of a family's default settings, and of variants, as published.
COUNTS: dict[str, list[tuple[dict[str, Any], int]]] = {
    "sfi-conv-tasnet": [
        ({}, 4_315_628),
        ({"design": "time"}, 4_315_628),
        ({"filters": "multi-phase-gammatone", "design": "time"}, 4_313_620),
    ],
    "deepconvsep": [({}, 578_682)],
    "unet": [({"sources": ["vocals"]}, 9_823_315), ({"network": {"control": "dense"}}, 9_844_847)],
    "tfc-unet": [({"sources": ["vocals"]}, 987_476)],
    # TensorFlow's count has the statistics of norms, and the innermost norm, which leads nowhere.
    "spleeter": [({}, 2 * 9_822_725), ({"masks": "complement"}, 9_822_725)],
    "scnet": [({}, 10_578_768), ({"network": {"channels": [64, 128, 256]}}, 42_181_232)],
    "hdemucs": [({}, 83_639_368)],
    "conv-tasnet": [({"sources": ["first", "second"]}, 4_984_881)],
    "sepformer": [({"sources": ["first", "second"]}, 25_679_361)],
    # The re-implementation that is looked up to has 4,096 more, in a decoder that nobody uses.
    "sfsrnet": [({"sources": ["first", "second"]}, 51_682_305 - 4_096 + 6_667_650)],
    "cascade": [({}, 9_822_725 + 4_315_628)],
    "ensemble": [({}, 4_315_628 + 9_822_827)],
    # What is on top of 4,315,628: kernels of 5, 9, 11 and 11, biases, and norms.
    "super-resolved": [
        ({"restorer": {"network": False}}, 4_315_628),
        (
            {},
            4_315_628
            + (9 * 16 * 25 + 16 * 32 * 81 + 32 * 16 * 121 + 16 * 4 * 121)
            + (16 + 32 + 16 + 4)
            + 2 * (16 + 32 + 16),
        ),
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


def served(model: SeparationModel, sample_rate: int) -> int:
    """Give a rate that a test would like, or the only one at which the model works."""
    return model.native_rate if model.family in RATE_BOUND else sample_rate


def stages(model: SeparationModel) -> int:
    """Count the estimates that a model gives for a source."""
    return 1 + len(model.stage_rates) if model.training else 1


def trained(model: SeparationModel) -> bool:
    """Tell whether a model has anything to train."""
    return any(parameter.requires_grad for parameter in model.parameters())


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
    # These families are given signals of one level, unless told otherwise. Spleeter's published
    # networks know the levels of music as it is; SCNet normalises its spectra itself.
    wanted = isinstance(model, SpectrogramModel | SFSRNet | CompositeModel)
    wanted = wanted and not isinstance(model, SCNet)
    if wanted and not isinstance(model, CompositeModel):
        assert type(model.config)().normalizes_level != isinstance(model, Spleeter)
    for part in (model, *(part.model for part in (*model.in_stages(), *model.in_members()))):
        part.normalizes_level = wanted
    quiet, loud = (
        torch.from_numpy(
            separated(model, (gain * mixture[0]).numpy(), sample_rate=served(model, 8000))
        )
        for gain in (1.0, level)
    )
    error = decibels(loud - level * quiet, level * quiet)
    assert (error > 50) == (variant not in LEVEL_BOUND)


def test_every_family_is_covered() -> None:
    assert {family for family, _ in VARIANTS.values()} == set(FAMILIES) == set(COUNTS)


def test_model_says_what_it_is(model: SeparationModel, variant: str) -> None:
    family, config = VARIANTS[variant]
    assert model.family == family
    assert FAMILIES[family][1] is type(model)
    assert model.sources == DEFAULT_SOURCES
    assert model.native_rate == 32000
    if isinstance(model, SpectrogramModel):
        assert model.gain_rule == "mixture-consistent"
        assert model.segments.chunk_invariant != isinstance(model, SCNet)
        assert model.config_dict()["stft"].items() >= config["stft"].items()
    elif isinstance(model, SuperResolvedSeparator):
        assert model.gain_rule == "mixture-consistent"
        assert not model.segments.chunk_invariant
        assert model.config_dict()["separator"] == config["separator"]
    elif isinstance(model, CompositeModel):
        assert model.gain_rule == "mixture-consistent"
        assert model.segments.chunk_invariant == (variant != "cascade without rest")
        assert [one["family"] for one in model.config_dict()[model.modules_name]] == [
            one.family for one in model.models
        ]
    elif isinstance(model, HDemucs):
        assert model.gain_rule == "mixture-consistent"
        assert not model.segments.chunk_invariant
    else:
        norm = config.get("tcn", {}).get("norm", "global")
        assert model.gain_rule == config.get("gain_rule", "least-squares")
        assert model.segments.chunk_invariant == (norm != "global")
        nested = "tcn" if "tcn" in config else "network"
        assert model.config_dict()[nested].items() >= config[nested].items()


@pytest.mark.parametrize("sample_rate", [8000, 11025, 32000, 44100])
@torch.no_grad()
def test_output_has_the_length_of_the_input(model: SeparationModel, sample_rate: int) -> None:
    for length in (0, 1, 2, 3, 19, 20, 21, 111, 1000):
        stems = model(music(2, 2, length), sample_rate=served(model, sample_rate))
        assert stems.shape == (2, 4, 2, length)
        assert stems.dtype == torch.float32
        assert torch.isfinite(stems).all()


@torch.no_grad()
def test_any_number_of_signals_and_channels(model: SeparationModel) -> None:
    for batch, channels in ((0, 2), (1, 0), (1, 1), (3, 5)):
        stems = model(music(batch, channels, 300), sample_rate=served(model, 8000))
        assert stems.shape == (batch, 4, channels, 300)


@torch.no_grad()
def test_signals_of_a_batch_do_not_mix(model: SeparationModel) -> None:
    mixture = music(3, 2, 1200) * torch.tensor([1.0, 0.01, 30.0]).view(3, 1, 1)
    together = model(mixture, sample_rate=served(model, 8000))
    apart = torch.cat([model(signal[None], sample_rate=served(model, 8000)) for signal in mixture])
    for i in range(3):
        assert decibels(together[i] - apart[i], apart[i]) > 100


@torch.no_grad()
def test_channels_do_not_mix(model: SeparationModel, variant: str) -> None:
    mixture = music(1, 3, 1200) * torch.tensor([1.0, 0.01, 30.0]).view(3, 1)
    together = model(mixture, sample_rate=served(model, 11025))
    for heard in ([0, 1], [2]) if variant in STEREO else ([0], [1], [2]):
        alone = model(mixture[:, heard], sample_rate=served(model, 11025))
        assert decibels(together[:, :, heard] - alone, alone) > 95


@torch.no_grad()
def test_same_input_same_output(model: SeparationModel, variant: str) -> None:
    mixture = music(1, 2, 1200)
    first = model(mixture, sample_rate=served(model, 44100))
    assert torch.equal(model(mixture, sample_rate=served(model, 44100)), first)
    model(music(1, 2, 700, seed=1), sample_rate=served(model, 8000))  # leaves nothing behind
    assert torch.equal(model(mixture, sample_rate=served(model, 44100)), first)
    assert torch.equal(small_model(variant)(mixture, sample_rate=served(model, 44100)), first)


@pytest.mark.parametrize("training", [False, True])
def test_silence_gives_silence(model: SeparationModel, training: bool) -> None:
    stems = model.train(training)(torch.zeros(2, 2, 2000), sample_rate=served(model, 16000))
    assert stems.shape == (2, 4 * stages(model), 2, 2000)
    assert (stems == 0).all()
    if not trained(model):
        return
    stems.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_very_loud_and_very_quiet_signals_stay_finite(model: SeparationModel) -> None:
    for level in (1e-8, 1e-3, 1e4):
        stems = model(level * music(1, 1, 2000), sample_rate=served(model, 8000))
        assert torch.isfinite(stems).all()


def test_gradient_reaches_every_parameter(model: SeparationModel) -> None:
    if not trained(model):
        pytest.skip("shares have no parameters, and the separator below them is not trained")
    # The attention of Hybrid Demucs needs more than one frame of 1,024 samples.
    length = 8000 if model.family == "hdemucs" else 1600
    stems = model.train()(music(2, 1, length), sample_rate=32000)
    weights = music(*stems.shape, seed=1)  # else a symmetric loss could hide what a softmax takes
    (stems * weights).sum().backward()
    unreached = tuple(
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    )
    assert unreached == NEVER_REACHED.get(model.family, ())
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_gradient_reaches_the_mixture(model: SeparationModel) -> None:
    mixture = music(1, 1, 1600).requires_grad_()
    stems = model(mixture, sample_rate=served(model, 8000))
    (stems * music(1, 4, 1, 1600, seed=1)).sum().backward()
    assert mixture.grad is not None
    assert (mixture.grad != 0).all()


@torch.no_grad()
def test_mixture_consistent_stems_add_up(model: SeparationModel) -> None:
    mixture = music(2, 2, 3000)
    mixture[..., 1000:2000] *= 1e-3
    for sample_rate in (8000, 11025):
        stems = model(mixture, sample_rate=served(model, sample_rate))
        error = mixture - stems.sum(dim=1)
        if model.gain_rule == "mixture-consistent":
            assert decibels(error, mixture) > 100
            quiet = slice(1300, 1700)  # no frame or share there hears the loud parts at 8 kHz
            assert decibels(error[..., quiet], mixture[..., quiet]) > 60
        else:
            assert decibels(error, mixture) < 30


@torch.no_grad()
def test_file_gives_the_model_back(model: SeparationModel, tmp_path: Path) -> None:
    mixture = music(1, 2, 2000)
    expected = model(mixture, sample_rate=served(model, 22050))
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(loaded(mixture, sample_rate=served(model, 22050)), expected)
    save_model(model, tmp_path / "half.safetensors", storage="float16")
    half = load_model(tmp_path / "half.safetensors")(mixture, sample_rate=served(model, 22050))
    assert not torch.equal(half, expected)
    assert decibels(half - expected, expected) > 45


# Chunks

SECONDS = 4
CHUNK = slice(1, 3)  # seconds of the chunk, half a second of context on either side
KEPT = slice(1500, 2500)  # milliseconds that are compared


def chunk_agreement(model: SeparationModel, sample_rate: int) -> float:
    """Give in dB how well a chunk with context agrees with the whole signal."""
    sample_rate = served(model, sample_rate)
    mixture = music(1, 1, SECONDS * sample_rate)
    mixture[..., : sample_rate // 2] *= 20  # a loud beginning that the chunk does not hear
    with torch.no_grad():
        whole = model(mixture, sample_rate=sample_rate)
        grid = model.chunk_alignment(sample_rate)  # chunks begin where frames do
        begin, end = CHUNK.start * sample_rate // grid * grid, CHUNK.stop * sample_rate
        chunk = model(mixture[..., begin:end], sample_rate=sample_rate)
    first, last = (round(ms * sample_rate / 1000) for ms in (KEPT.start, KEPT.stop))
    expected = whole[..., first:last]
    return decibels(chunk[..., first - begin : last - begin] - expected, expected)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100])
def test_chunk_invariance_is_as_promised(model: SeparationModel, sample_rate: int) -> None:
    agreement = chunk_agreement(model, sample_rate)
    if model.segments.chunk_invariant:
        assert agreement > 60
    elif not (isinstance(model, SuperResolvedSeparator) and sample_rate <= model.config.low_rate):
        # Up to the low rate a super-resolved model is what the separator below is.
        assert agreement < 40


@pytest.mark.parametrize("family", RATE_BOUND)
def test_other_rates_are_refused(family: str) -> None:
    message = f"{family} model at 44100 Hz: it works at 32000 Hz only; pass --method resample"
    with pytest.raises(ConfigError, match=message):
        small_model(family)(music(1, 1, 100), sample_rate=44100)


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


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"super-resolved"}))  # has none
def test_sources_must_differ(family: str) -> None:
    for sources, found in ((["a", "a"], "'a', 'a'"), ([], "none")):
        with pytest.raises(ConfigError, match=f"expected different names of .*, got {found}"):
            build_model(family, {"sources": sources})
