"""Weights as integers with scales: what is rounded, by how much, and files that lie."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfisep_core.errors import CheckpointError
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.pretrained.quantization import SCALE_SUFFIX, dequantize, quantize

SETTINGS = {
    "sources": ["vocals", "accompaniment"],
    "masks": "complement",
    "network": {"channels": [8, 16, 32]},
    "patch_frames": 64,
    "patch_overlap": 14,
}
LARGE = "network.networks.0.unet.middle.down.convolution.weight"  # 32 x 16 x 5 x 5


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return build_model("spleeter", SETTINGS).eval()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = build_model("spleeter", SETTINGS)
    save_model(model, tmp_path / "model.safetensors", storage="int8", licence="CC0")
    return tmp_path / "model.safetensors"


def rewrite(path: Path, changes: dict[str, Tensor | None]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors |= {name: value for name, value in changes.items() if value is not None}
    kept = {name: value for name, value in tensors.items() if changes.get(name, value) is not None}
    save_file(kept, path, metadata=metadata)


def test_integers_of_a_known_matrix() -> None:
    layer = nn.Linear(2048, 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :4] = torch.tensor([1.27, -0.01, 0.0149, 0.5])
    stored = quantize(layer)
    assert stored["weight"].dtype == torch.int8
    assert stored["weight"][0, :5].tolist() == [127, -1, 1, 50, 0]
    torch.testing.assert_close(stored["weight" + SCALE_SUFFIX], torch.tensor([[0.01], [0.0]]))
    back = dequantize(stored, where="here")["weight"]
    torch.testing.assert_close(back[0, :4], torch.tensor([1.27, -0.01, 0.01, 0.5]))
    assert not back[1].any()
    assert quantize(layer, bits=6)["weight"][0, :4].tolist() == [31, 0, 0, 12]


def test_transposed_kernels_have_scales_along_their_outputs() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleDict(
        {
            "down": nn.Conv2d(16, 32, 5),
            "up": nn.ConvTranspose2d(32, 16, 5),
            "small": nn.Conv2d(2, 4, 5),
        }
    )
    stored = quantize(layers)
    assert stored["down.weight" + SCALE_SUFFIX].shape == (32, 1, 1, 1)
    assert stored["up.weight" + SCALE_SUFFIX].shape == (1, 16, 1, 1)
    assert stored["small.weight"].dtype == stored["up.bias"].dtype == torch.float32
    for bits, highest in ((8, 127), (6, 31)):
        back = dequantize(quantize(layers, bits=bits), where="here")  # type: ignore[arg-type]
        for name, axes in (("down.weight", (1, 2, 3)), ("up.weight", (0, 2, 3))):
            weight = layers.state_dict()[name]
            step = weight.abs().amax(axes, keepdim=True) / highest
            error = (back[name] - weight).abs()
            assert (error <= 0.5001 * step).all()
            assert (error > 0.4 * step).any()  # it is rounded at all


def test_rounding_twice_changes_nothing_more() -> None:
    model = make_model()
    once = dequantize(quantize(model), where="here")
    model.load_state_dict(once)
    assert quantize(model)[LARGE].equal(quantize(make_model())[LARGE])


@pytest.mark.parametrize(("storage", "share", "snr"), [("int8", 0.4, 30), ("int6", 0.4, 18)])
@torch.no_grad()
def test_file_is_smaller_and_separates_nearly_the_same(
    tmp_path: Path, storage: str, share: float, snr: float
) -> None:
    torch.manual_seed(0)
    model = build_model("spleeter", SETTINGS).eval()
    save_model(model, tmp_path / "whole.safetensors")
    save_model(model, tmp_path / "small.safetensors", storage=storage)  # type: ignore[arg-type]
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("small", "whole")]
    assert sizes[0] < share * sizes[1]
    loaded = load_model(tmp_path / "small.safetensors")
    assert all(
        value.dtype in (torch.float32, torch.int64) for value in loaded.state_dict().values()
    )
    mixture = 10 * torch.randn(1, 2, 20_000)
    whole, small = (m(mixture, sample_rate=8000) for m in (model, loaded))
    error = (whole - small).square().sum() / whole.square().sum()
    assert 0 < error < 10 ** (-snr / 10)


def test_file_says_that_it_needs_this_program(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["sfisep"])
        assert file.get_slice(LARGE).get_dtype() == "I8"
    assert description["format_version"] == 2
    assert read_description(path).licence == "CC0"


def test_same_model_same_bytes(path: Path) -> None:
    model = load_model(path)
    for name in ("first", "second"):
        save_model(model, path.with_name(name), storage="int8")
    assert path.with_name("first").read_bytes() == path.with_name("second").read_bytes()


SCALE = LARGE + SCALE_SUFFIX


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({SCALE: None}, f"{LARGE} has 8-bit integers, but no scale"),
        ({LARGE: None}, f"{SCALE} belongs to no weight of 8-bit integers"),
        ({LARGE: torch.zeros(32, 16, 5, 5)}, f"{SCALE} belongs to no weight of 8-bit integers"),
        ({"a.int8_scale": torch.ones(1)}, "a.int8_scale belongs to no weight of 8-bit integers"),
        (
            {SCALE: torch.ones(32)},
            r"expected float32 of shape \[32, 1, 1, 1\] or .*, found float32 of shape \[32\]",
        ),
        ({SCALE: torch.ones(31, 1, 1, 1)}, r"found float32 of shape \[31, 1, 1, 1\]"),
        ({SCALE: torch.ones(32, 16, 1, 1)}, r"found float32 of shape \[32, 16, 1, 1\]"),
        ({SCALE: torch.ones(32, 1, 1, 1).double()}, "expected float32 .* found float64"),
        ({SCALE: torch.full((32, 1, 1, 1), float("nan"))}, "expected finite values from 0 on"),
        ({SCALE: torch.full((32, 1, 1, 1), float("inf"))}, "expected finite values from 0 on"),
        ({SCALE: torch.full((32, 1, 1, 1), -1.0)}, "expected finite values from 0 on"),
        (
            {SCALE: torch.full((32, 1, 1, 1), 3e38), LARGE: torch.full((32, 16, 5, 5), 100).char()},
            f"weight {LARGE} holds values that are not finite",
        ),
        (
            {LARGE: torch.ones(32, 16, 5, 4).char()},
            r"size mismatch of weight .* expected \[32, 16, 5, 5\], found \[32, 16, 5, 4\]",
        ),
        (
            {LARGE: torch.tensor(1).char(), SCALE: torch.tensor(1.0)},
            "scale .* expected float32 of shape",
        ),
    ],
)
def test_files_that_lie_are_refused(
    path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    rewrite(path, changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)
