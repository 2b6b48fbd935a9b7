import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.official import (
    OFFICIAL_SOURCES,
    convert_official_checkpoint,
    load_official_model,
)
from sfisep_core.pretrained.resolve import resolve_model

VARIANTS = ("fd_mgf", "td_mgf", "td_mpgtf")
RATES = (8000, 12000, 16000, 24000, 32000, 48000)

Array = npt.NDArray[np.float32]


@pytest.fixture(params=VARIANTS)
def fixture(request: pytest.FixtureRequest, shared_dir: Path) -> tuple[Path, Mapping[str, Array]]:
    """Give a checkpoint and what the published program computes from it."""
    folder = shared_dir / "fixtures" / "official"
    if not folder.is_dir():
        pytest.skip("the parity fixtures are not in the shared folder")
    stem = f"sfi_convtasnet_{request.param}"
    return folder / f"{stem}.best_checkpoint", np.load(folder / f"{stem}.npz")


def relative(actual: Tensor, expected: Array) -> float:
    """Give the relative L2 error."""
    reference = torch.from_numpy(expected)
    assert actual.shape == reference.shape
    return float((actual - reference).norm() / reference.norm())


@torch.no_grad()
def test_parity_with_the_published_program(fixture: tuple[Path, Mapping[str, Array]]) -> None:
    path, expected = fixture
    model = load_official_model(path)
    assert model.sources == OFFICIAL_SOURCES == ("drums", "bass", "other", "vocals")
    for rate in RATES:
        for layer, name in ((model.encoder, "encoder"), (model.decoder, "decoder")):
            taps = torch.from_numpy(expected[f"{rate}/{name}_weight"]).transpose(0, 1)
            error = (layer.taps(rate) - taps).abs().max() / taps.abs().max()
            assert error.item() < 1e-4
        mixture = torch.from_numpy(expected[f"{rate}/mixture"]).view(1, 1, -1)
        latent = torch.relu(model.encoder(mixture, sample_rate=rate))[0]
        assert relative(latent, expected[f"{rate}/latent"]) < 1e-3
        estimates = model(mixture, sample_rate=rate)[0, :, 0]
        assert relative(estimates, expected[f"{rate}/estimates"]) < 1e-3


@torch.no_grad()
def test_parity_of_the_whole_procedure(fixture: tuple[Path, Mapping[str, Array]]) -> None:
    path, expected = fixture
    mixture = torch.from_numpy(expected["pipeline/mixture"]).float().T  # (channel, time)
    padded = torch.nn.functional.pad(mixture, (0, 1))
    scaled = padded / padded.std(dim=-1, keepdim=True)
    stems = load_official_model(path)(scaled.unsqueeze(0), sample_rate=16000)[0, ..., :-1]
    assert relative(stems.transpose(0, 1), expected["pipeline/raw"]) < 1e-3


@pytest.mark.slow
@torch.no_grad()
def test_converted_fixture_gives_the_same_output(
    fixture: tuple[Path, Mapping[str, Array]], tmp_path: Path
) -> None:
    path, expected = fixture
    convert_official_checkpoint(path, tmp_path / "model.safetensors")
    converted = load_model(tmp_path / "model.safetensors")
    model = load_official_model(path)
    assert converted.config == model.config
    for rate in (8000, 44100):
        mixture = torch.from_numpy(expected["16000/mixture"]).view(1, 1, -1)
        assert torch.equal(converted(mixture, sample_rate=rate), model(mixture, sample_rate=rate))


# Checkpoints made here, by writing a model of ours under the published names.

_OFFICIAL_NAMES = (
    (r"^(encoder|decoder)\.filters", r"stage.\1.conv.continuous_filters"),
    (r"\.center_hz$", ".center_freqs_in_hz"),
    (r"\.center_repeats$", ".n_phase_variations"),
    (r"\.center$", ".mus"),
    (r"\.ln_sigma2$", "._ln_sigma2s"),
    (r"^masker\.conv_in", "stage.mask.in_conv.conv"),
    (r"^masker\.conv_out", "stage.mask.mask_output.conv"),
    (r"^masker\.output\.0", "stage.mask.prelu_4"),
    (r"^masker\.output\.1", "stage.mask.norm_4"),
    (r"^masker\.layers", "stage.mask.tcn"),
    (r"^masker", "stage.mask"),
    (r"\.conv_in", ".conv1d.conv"),
    (r"\.depthwise", ".dconv1d.conv"),
    (r"\.residual", ".res_out.conv"),
    (r"\.skip", ".skip_out.conv"),
    (r"\.(norm_\d)", r".\1.group_norm"),
)


def official_name(name: str, *, gammatone: bool) -> str:
    for pattern, replacement in _OFFICIAL_NAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"filters\.phase$", "filters.phases", name) if gammatone else name


def make_checkpoint(
    path: Path,
    change: Callable[[dict[str, Any], dict[str, Tensor]], object] = lambda _, __: None,
    *,
    gammatone: bool = False,
) -> SFIConvTasNet:
    """Write a published checkpoint of a small model and give the model."""
    torch.manual_seed(0)
    model = SFIConvTasNet(
        SFIConvTasNetConfig(
            sources=OFFICIAL_SOURCES,
            num_filters=16,
            alignment="release",
            design="time" if gammatone else "frequency",
            filters="multi-phase-gammatone" if gammatone else "modulated-gaussian",
            num_centers=3,
            tcn=TCNConfig(8, 16, num_layers=2, num_stacks=2),
        )
    )
    for parameter in model.masker.parameters():
        torch.nn.init.normal_(parameter)
    part: dict[str, Any] = {
        "fir_computation_type": "imp_resp_samp" if gammatone else "freq_resp_samp",
        "ContFilterType": "MultiPhaseGammaToneFilters" if gammatone else "ModulatedGaussianFilters",
        "use_Hilbert_transforms": False,
        "n_samples_freq_resp": 640,
        "filter_params": {"initial_freq_range": [50.0, 16000.0], "n_center_freqs": 3},
    }
    settings: dict[str, Any] = {
        "N": 16,
        "L": 160,
        "W": 80,
        "B": 8,
        "H": 16,
        "layers": 2,
        "stack": 2,
        "kernel": 3,
        "residual_bias": False,
        "sampling_rate": 32000,
        "encoder_params": part,
        "decoder_params": {**part, "filter_params": dict(part["filter_params"])},
    }
    weights = {
        official_name(name, gammatone=gammatone): tensor
        for name, tensor in model.state_dict().items()
    }
    if gammatone:
        weights["stage.encoder.conv.continuous_filters.train_sample_rate"] = torch.tensor(32000.0)
    change(settings, weights)
    torch.save({"epoch": 1, "state_dict": weights, "steps": 2, "args": settings}, path)
    return model.eval()


@pytest.mark.parametrize("gammatone", [False, True])
@torch.no_grad()
def test_published_names_are_understood(tmp_path: Path, gammatone: bool) -> None:
    path = tmp_path / "best_checkpoint"
    model = make_checkpoint(path, gammatone=gammatone)
    loaded = load_official_model(path)
    assert loaded.config == model.config
    assert not loaded.training
    mixture = torch.randn(1, 2, 1500, generator=torch.Generator().manual_seed(0))
    expected = model(mixture, sample_rate=8000)
    assert torch.equal(loaded(mixture, sample_rate=8000), expected)
    convert_official_checkpoint(path, tmp_path / "model.safetensors")
    assert torch.equal(
        load_model(tmp_path / "model.safetensors")(mixture, sample_rate=8000), expected
    )


def test_conversion_says_where_the_weights_come_from(tmp_path: Path) -> None:
    path = tmp_path / "best_checkpoint"
    make_checkpoint(path)
    convert_official_checkpoint(path, tmp_path / "model.safetensors")
    about = read_description(tmp_path / "model.safetensors")
    assert about.licence == "MIT"
    assert about.training["description"] == "converted from a published checkpoint, best_checkpoint"
    assert about.config["sources"] == list(OFFICIAL_SOURCES)
    assert about.config["alignment"] == "release"


def test_a_path_tells_which_format_it_is(tmp_path: Path) -> None:
    path = tmp_path / "best_checkpoint"
    make_checkpoint(path)
    convert_official_checkpoint(path, tmp_path / "model.safetensors")
    for name in ("best_checkpoint", "model.safetensors"):
        assert resolve_model(str(tmp_path / name)).sources == OFFICIAL_SOURCES


Change = Callable[[dict[str, Any], dict[str, Tensor]], object]
_ENCODER = "encoder_params"
_BAD_SETTINGS: dict[str, tuple[Change, str]] = {
    "Hilbert": (
        lambda s, _: s[_ENCODER].update(use_Hilbert_transforms=True),
        "use_Hilbert_transforms = true is not supported",
    ),
    "Hilbert in the decoder": (
        lambda s, _: s["decoder_params"].update(use_Hilbert_transforms=True),
        "use_Hilbert_transforms = true is not supported",
    ),
    "one-sided": (
        lambda s, _: s[_ENCODER]["filter_params"].update(one_sided=True),
        "one_sided = true is not supported",
    ),
    "bias": (lambda s, _: s.update(residual_bias=True), "residual_bias = true is not supported"),
    "mixed designs": (
        lambda s, _: s[_ENCODER].update(fir_computation_type="imp_resp_samp"),
        "fir_computation_type differs between encoder",
    ),
    "mixed filters": (
        lambda s, _: s["decoder_params"].update(ContFilterType="TDModulatedGaussianFilters"),
        "ContFilterType differs",
    ),
    "unknown filters": (
        lambda s, _: [s[p].update(ContFilterType="Wavelets") for p in (_ENCODER, "decoder_params")],
        "Wavelets",
    ),
    "no settings": (lambda s, _: s.clear(), "encoder_params"),
    "no N": (lambda s, _: s.pop("N"), "'N'"),
    "N in words": (lambda s, _: s.update(N="many"), "many"),
    "N of another kind": (lambda s, _: s.update(N=[16]), "int"),
    "N infinite": (lambda s, _: s.update(N=float("inf")), "infinity"),
    "negative N": (lambda s, _: s.update(N=-1), "num_filters: expected 1 to 4096, got -1"),
    "no layers": (lambda s, _: s.update(layers=0), "num_layers: expected 1 to 16, got 0"),
    "no stride": (lambda s, _: s.update(W=0), "stride"),
    "a list for a table": (lambda s, _: s.update(encoder_params=[1]), "get"),
    "half a range": (
        lambda s, _: s[_ENCODER]["filter_params"].update(initial_freq_range=[50.0]),
        "not enough values",
    ),
}
_BAD_WEIGHTS: dict[str, tuple[Change, str]] = {
    "smaller than said": (
        lambda s, _: s.update(B=16),
        r"size mismatch of weight .* \(and \d+ more\)$",
    ),
    "missing": (
        lambda _, w: w.pop("stage.mask.tcn.1.skip_out.conv.weight"),
        "skip.weight is missing$",
    ),
    "too many": (
        lambda _, w: w.update(more=torch.zeros(1)),
        "weight more is unknown to the model$",
    ),
    "none": (lambda _, w: w.clear(), r"is missing \(and \d+ more\)$"),
}


@pytest.mark.parametrize("case", _BAD_SETTINGS)
def test_settings_of_other_models_are_refused(tmp_path: Path, case: str) -> None:
    change, message = _BAD_SETTINGS[case]
    path = tmp_path / "best_checkpoint"
    make_checkpoint(path, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_official_model(path)
    assert f"checkpoint {path}: expected the settings of a published" in str(caught.value)


@pytest.mark.parametrize("case", _BAD_WEIGHTS)
def test_weights_that_do_not_fit_the_settings_are_refused(tmp_path: Path, case: str) -> None:
    change, message = _BAD_WEIGHTS[case]
    path = tmp_path / "best_checkpoint"
    make_checkpoint(path, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_official_model(path)
    assert "its weights do not fit its own settings" in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "best_checkpoint"
    make_checkpoint(path, lambda _, w: w["stage.mask.prelu_3.weight"].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=r"masker\.prelu_3\.weight holds values"):
        load_official_model(path)


def test_a_checkpoint_does_not_replace_itself(tmp_path: Path) -> None:
    path = tmp_path / "best_checkpoint"
    make_checkpoint(path)
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    for out in (path, tmp_path / "link"):
        with pytest.raises(ConfigError, match="of which it is made"):
            convert_official_checkpoint(path, out)
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_read_converts_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "best_checkpoint"
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(CheckpointError):
        convert_official_checkpoint(path, tmp_path / "model.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["best_checkpoint"]
