from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.conditioning import GeneratedNorm, film, gated_pocm, pocm
from sfisep_core.models.blocks.tfc_unet import TFCUNet, TFCUNetConfig
from tests.models.parity import Fixture, difference, load_renamed

TFC_TDF = TFCUNetConfig()
TFC = TFCUNetConfig(across="none")
CONDITIONED = TFCUNetConfig(affine=True, modulation="gpocm", across="lasaft")
LARGE = replace(CONDITIONED, num_blocks=9, embedding=64)

COUNTS = [  # config, n_fft, published count
    (TFC_TDF, 2048, 987_476),
    (replace(TFC_TDF, num_blocks=9, bias=True, affine=True), 4096, 2_232_132),
    (
        replace(TFC_TDF, num_blocks=17, bias=True, affine=True, halves_time=(0, 2, 4, 6)),
        2048,
        1_930_840,
    ),
    (TFC, 2048, 639_316),
    (replace(TFC, transform="tdf"), 2048, 359_492),
    (replace(TFC, transform="tdc"), 2048, 217_684),
    (replace(CONDITIONED, modulation="film", across="none"), 2048, 720_676),
    (replace(CONDITIONED, modulation="film", across="tdf"), 2048, 1_069_508),
    (replace(CONDITIONED, modulation="film"), 2048, 7_998_436),
    (replace(CONDITIONED, across="none"), 2048, 1_146_268),
    (replace(CONDITIONED, across="tdf"), 2048, 1_495_100),
    (CONDITIONED, 2048, 8_424_028),
    (replace(CONDITIONED, across="lightsaft"), 2048, 2_374_236),
    (LARGE, 4096, 31_541_908),
    (replace(LARGE, across="lightsaft"), 4096, 7_142_036),
]
SMALL: dict[str, dict[str, Any]] = {
    "tfc": {"across": "none"},
    "tdc": {"transform": "tdc", "across": "none"},
    "tdf": {"transform": "tdf", "across": "none"},
    "tfc-tdf": {"affine": True},
    "one dense layer": {"bottleneck_factor": None, "bias": True, "affine": True},
    "film": {"modulation": "film", "conditioned": "full"},
    "simple film": {"modulation": "film-simple", "conditioned": "encoder", "across": "none"},
    "pocm": {"modulation": "pocm", "across": "none"},
    "lasaft": {"modulation": "gpocm", "across": "lasaft"},
    "lightsaft": {"modulation": "gpocm", "across": "lightsaft", "conditioned": "full"},
    "lasaft alone": {"across": "lasaft"},
}


def small_network(kind: str) -> TFCUNet:
    torch.manual_seed(0)
    settings = {"num_blocks": 5, "channels": 4, "num_layers": 2, "min_units": 3, "embedding": 5}
    settings |= {"key_size": 3, "num_latent": 2}
    config = TFCUNetConfig(**{**settings, **SMALL[kind]})  # type: ignore[arg-type]
    network = TFCUNet(config, num_bins=17)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def sources() -> Tensor:
    return torch.arange(4)


@pytest.mark.parametrize(("config", "n_fft", "count"), COUNTS)
def test_number_of_parameters_is_the_published_one(
    config: TFCUNetConfig, n_fft: int, count: int
) -> None:
    with torch.device("meta"):
        network = TFCUNet(config, num_bins=n_fft // 2 + 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


# The same numbers as the published programs

NAMES = {
    r"^(encoders|downsamplings|upsamplings|decoders|mid_block)": r"unet.\1",
    "downsamplings": "downs",
    "upsamplings": "ups",
    "mid_block": "middle",
    r"^first_conv": "first",
    r"^last_conv\.0": "last",
    r"\.(tfc\.)?H\.": ".transform.layers.",
    r"\.tif\.tif\.": ".across.",
    r"\.tdf\.tdf\.": ".across.",
    r"\.tdfs\.tdf\.": ".across.values.",
    r"\.keys$": ".across.attention.keys",
    r"\.linear_query\.": ".across.attention.query.",
    r"\.LaSAFT_bn_layer\.": ".across.narrow.",
    r"\.LaSIFT\.": ".across.widen.",
    r"^condition_generator\.dense_control_block\.linear\.": "generator.control.",
    r"^condition_generator\.linear_(gamma|beta)\.0\.": r"generator.\1.",
    r"^condition_generator\.linear_(gamma|beta)\.2\.": r"generator.\1_norm.",
}
# The network without convolutions over time has names of its own.
TDF_NAMES = {
    r"decoders\.(\d)\.0\.tif\.": r"decoders.\1.transform.0.",
    r"decoders\.(\d)\.1\.": r"decoders.\1.transform.1.",
    r"(encoders\.\d|mid_block)\.tif\.": r"\1.transform.0.",
    r"\.conv\.": ".0.",
    r"\.bn\.": ".1.",
    **NAMES,
}


def config_of(fixture: Fixture) -> TFCUNetConfig:
    settings, network = fixture.constructor, str(fixture.config["network"])
    across = "none"
    for name, kind in (("TDF", "tdf"), ("LaSAFT", "lasaft"), ("LightSAFT", "lightsaft")):
        across = kind if network.endswith(name) or f"{name}_NET" in network else across
    conditioned = network.startswith("DCUN")
    modulation = "none"
    if conditioned:
        modulation = "gpocm" if "GPoCM" in network else "film"
    time = settings.get("t_down_layers")
    transform = "tdf" if network == "TDF_NET" else "tfc"
    return TFCUNetConfig(
        num_blocks=settings["n_blocks"],
        channels=settings["internal_channels"],
        transform=transform,  # type: ignore[arg-type]
        across="none" if transform == "tdf" else across,  # type: ignore[arg-type]
        num_layers=settings.get("n_internal_layers", 1),
        bottleneck_factor=settings.get("bn_factor"),
        min_units=settings.get("min_bn_units", 16),
        bias=bool(settings.get("tfc_tdf_bias", settings.get("bias", False))),
        affine=conditioned or bool(settings.get("tfc_tdf_bias", False)),
        halves_time=None if time is None else tuple(time),
        modulation=modulation,  # type: ignore[arg-type]
        conditioned=settings.get("condition_to", "decoder"),
        embedding=settings.get("embedding_dim", 32),
        num_latent=settings.get("num_tdfs", 6),
        key_size=settings.get("dk", 32),
    )


@pytest.mark.parametrize(
    "name",
    [
        "tfc_tdf_nobias",
        "tfc_tdf_bias",
        "tfc_tdf_tdown_single",
        "tfc_only",
        "tdf_only",
        "cond_film",
        "cond_film_tdf_full",
        "cond_gpocm",
        "cond_gpocm_tdf",
        "cond_gpocm_lasaft",
        "cond_gpocm_lightsaft",
    ],
)
@torch.no_grad()
def test_same_numbers_as_the_program(shared_dir: Path, name: str) -> None:
    fixture = Fixture(shared_dir, name)
    network = TFCUNet(config_of(fixture), num_bins=fixture.constructor["n_fft"] // 2 + 1).eval()
    state = fixture.state()
    if name == "tdf_only":  # its convolutions over frequency know no time
        state = {k: v.unsqueeze(2) if v.dim() == 3 else v for k, v in state.items()}
    load_renamed(network, state, TDF_NAMES if name == "tdf_only" else NAMES)
    told = fixture.tensor("input/condition").long() if name.startswith("cond") else None
    output = network(fixture.tensor("input/spec"), told)
    assert difference(output, fixture.tensor("output/spec")) < 1e-5


def test_modulations_are_the_published_ones(shared_dir: Path) -> None:
    fixture = Fixture(shared_dir, "modulation_units")
    features = fixture.tensor("input/x")
    gamma, beta = fixture.tensor("input/pocm_gamma"), fixture.tensor("input/pocm_beta")
    mixed = pocm(features, gamma, beta)
    assert difference(mixed, fixture.tensor("output/pocm_in_out")) < 1e-5
    # The other program's convention is the transposed one, and they differ.
    other = fixture.tensor("output/pocm_out_in")
    assert difference(pocm(features, gamma.transpose(1, 2), beta), other) < 1e-5
    assert difference(mixed, other) > 0.1
    gated = gated_pocm(features, gamma, beta)
    assert difference(gated, fixture.tensor("output/gpocm_in_out")) < 1e-5
    for kind in ("simple", "complex"):
        gamma = fixture.tensor(f"input/film_{kind}_gamma").view(3, -1)
        beta = fixture.tensor(f"input/film_{kind}_beta").view(3, -1)
        scaled = film(features, gamma, beta)
        assert difference(scaled, fixture.tensor(f"output/film_{kind}")) < 1e-5


# Properties


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_any_number_of_frames(kind: str) -> None:
    network = small_network(kind).eval()
    for frames in (1, 4, 7):
        spectra = torch.randn(4, 4, frames, 17)
        assert network(spectra, sources()).shape == spectra.shape


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_items_of_a_batch_do_not_mix(kind: str) -> None:
    network = small_network(kind).eval()
    spectra = torch.randn(4, 4, 8, 17)
    together = network(spectra, sources())
    for i in range(4):
        alone = network(spectra[i : i + 1], sources()[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_the_source_matters_where_it_is_told(kind: str) -> None:
    network = small_network(kind).eval()
    outputs = network(torch.randn(1, 4, 8, 17).expand(4, -1, -1, -1), sources())
    differs = not torch.allclose(outputs[0], outputs[1], atol=1e-4)
    assert differs == network.config.knows_sources


@pytest.mark.parametrize("kind", SMALL)
def test_gradient_reaches_every_parameter(kind: str) -> None:
    network = small_network(kind)
    (network(torch.randn(4, 4, 8, 17), sources()) * torch.randn(4, 4, 8, 17)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any() or name.endswith("bias"), name


def test_a_batch_of_one_condition_does_not_lose_what_it_says() -> None:
    """A plain batch norm makes weights that do not vary over the batch zero: every gate is 1/2."""
    network = small_network("lasaft").train()
    norm = network.generator.gamma_norm
    for module in network.generator.control:
        if isinstance(module, torch.nn.Dropout):
            module.eval()  # so that nothing varies
    seen: list[Tensor] = []
    norm.register_forward_hook(lambda *call: seen.append(call[2]))
    spectra = torch.randn(4, 4, 8, 17)
    network(spectra, torch.full((4,), 2))
    network(spectra, sources())
    alone, mixed = (found.abs().mean() for found in seen)
    assert alone > 0.1
    assert mixed > 0.1
    plain = torch.nn.BatchNorm1d(3, affine=False)
    assert not plain(torch.randn(1, 3).expand(4, -1)).any()


def test_norm_of_generated_weights_is_the_plain_one_in_evaluation() -> None:
    norm, plain = GeneratedNorm(3), torch.nn.BatchNorm1d(3, affine=False)
    weights = 3 + 2 * torch.randn(16, 3)
    torch.testing.assert_close(norm(weights), plain(weights))
    for module in (norm, plain):
        module.eval()
    for mixed in (False, True):
        torch.testing.assert_close(norm(weights[:2], mixed=mixed), plain(weights[:2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_blocks": 4}, "num_blocks: expected an odd number of 3 to 31, got 4"),
        ({"num_layers": 0}, "num_layers: expected 1 to 64, got 0"),
        ({"bottleneck_factor": 0}, "bottleneck_factor: expected 1 to 65536, got 0"),
        ({"control_layers": 0}, "control_layers: expected 1 to 12"),
        ({"key_size": 0}, "key_size: expected 1 to 4096"),
        ({"halves_time": (0, 9)}, "halves_time: expected levels of 0 to 2, got 9"),
        ({"transform": "tdf"}, "tdf blocks stand by themselves; expected across none"),
        ({"transform": "tdc", "modulation": "film", "across": "none"}, "got none and film"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TFCUNetConfig(**settings)


def test_bins_must_be_halved_evenly() -> None:
    with pytest.raises(ConfigError, match="20 bins cannot be halved 3 times"):
        TFCUNet(TFC, num_bins=21)
