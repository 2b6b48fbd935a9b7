import pickle
import random
import sys
import types
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.official_checkpoint import read_official_checkpoint
from sfisep_core.pretrained.torch_files import Placeholder, read_torch_file
from tests.pretrained.test_torch_files import write_zip

# The main path, on a checkpoint of the released shape made here.


@pytest.fixture
def synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save a checkpoint whose settings are OmegaConf 1.4 objects, then forget their classes."""
    with monkeypatch.context() as patch:
        made = {}
        for module_name, class_name in (
            ("omegaconf.dictconfig", "DictConfig"),
            ("omegaconf.listconfig", "ListConfig"),
            ("omegaconf.nodes", "UntypedNode"),
        ):
            module = types.ModuleType(module_name)
            made[class_name] = type(class_name, (), {"__module__": module_name})
            setattr(module, class_name, made[class_name])
            patch.setitem(sys.modules, module_name, module)
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))

        def node(value: Any, parent: Any = None) -> Any:
            result = made["UntypedNode"]()
            content: Any = None
            if isinstance(value, dict):
                result = made["DictConfig"]()
                content = {key: node(item, result) for key, item in value.items()}
            elif isinstance(value, list):
                result = made["ListConfig"]()
                content = [node(item, result) for item in value]
            else:
                result.__dict__ = {"val": value}
                return result
            result.__dict__ = {
                "flags": {"readonly": None},
                "_resolver_cache": defaultdict(dict, {"env": {"a": "b"}}),
                "content": content,
                "parent": parent,
            }
            return result

        weights: OrderedDict[str, torch.Tensor] = OrderedDict()
        weights["mus"] = torch.tensor([1.5, -2.0, 3.25])
        weights["transposed"] = torch.arange(6.0).reshape(2, 3).T
        weights["view"] = torch.arange(10)[3:9:2]
        weights["flag"] = torch.tensor([True, False])
        weights["half"] = torch.tensor([0.5, 2.0], dtype=torch.bfloat16)
        weights["complex"] = torch.tensor([1 + 2j])
        weights["scalar"] = torch.tensor(32000.0, dtype=torch.float64)
        weights["empty"] = torch.empty(5, 0)
        weights["parameter"] = torch.nn.Parameter(torch.tensor([7.0]))
        weights._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
        settings = {
            "N": 48,
            "sampling_rate": 32000,
            "checkpoint": None,
            "encoder_params": {
                "fir_computation_type": "freq_resp_samp",
                "use_Hilbert_transforms": False,
                "filter_params": {"initial_freq_range": [50.0, 16000.0]},
            },
        }
        content = {
            "epoch": 3,
            "state_dict": weights,
            "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.ones(3)}}},
            "steps": 123,
            "args": node(settings),
        }
        torch.save(content, tmp_path / "best_checkpoint")
    return tmp_path / "best_checkpoint"


def test_synthetic_checkpoint_gives_weights_and_settings(synthetic: Path) -> None:
    checkpoint = read_official_checkpoint(synthetic)
    assert "omegaconf" not in sys.modules
    assert (checkpoint.epoch, checkpoint.steps) == (3, 123)
    assert checkpoint.settings == {
        "N": 48,
        "sampling_rate": 32000,
        "checkpoint": None,
        "encoder_params": {
            "fir_computation_type": "freq_resp_samp",
            "use_Hilbert_transforms": False,
            "filter_params": {"initial_freq_range": [50.0, 16000.0]},
        },
    }
    expected = {
        "mus": torch.tensor([1.5, -2.0, 3.25]),
        "transposed": torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]),
        "view": torch.tensor([3, 5, 7]),
        "flag": torch.tensor([True, False]),
        "half": torch.tensor([0.5, 2.0], dtype=torch.bfloat16),
        "complex": torch.tensor([1 + 2j]),
        "scalar": torch.tensor(32000.0, dtype=torch.float64),
        "empty": torch.empty(5, 0),
        "parameter": torch.tensor([7.0]),
    }
    assert list(checkpoint.state_dict) == list(expected)
    for name, tensor in checkpoint.state_dict.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
        assert not tensor.requires_grad
        assert type(tensor) is torch.Tensor


def test_placeholders_keep_what_the_file_says(synthetic: Path) -> None:
    content: Any = read_torch_file(synthetic, placeholders=("omegaconf", "builtins"))
    args = content["args"]
    assert isinstance(args, Placeholder)
    assert (args.module, args.name, args.args) == ("omegaconf.dictconfig", "DictConfig", ())
    assert args.state["content"]["N"].state == {"val": 48}
    assert args.state["content"]["encoder_params"].state["parent"] is args
    assert args.state["_resolver_cache"] == {"env": {"a": "b"}}
    assert content["optimizer"]["state"][0]["step"] == 5


@pytest.mark.parametrize("args", [{"N": 8, "b": [1, (2,)]}, Namespace(N=8, b=[1, (2,)])])
def test_settings_may_be_a_dict_or_a_namespace(tmp_path: Path, args: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {}, "args": args, "epoch": "last"}, path)
    checkpoint = read_official_checkpoint(path)
    assert checkpoint.settings == {"N": 8, "b": [1, [2]]}
    assert (checkpoint.epoch, checkpoint.steps) == (None, None)


def test_settings_of_an_unknown_kind_are_named_and_not_built(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {}, "args": {"kind": int, "w": torch.ones(2)}}, path)
    assert read_official_checkpoint(path).settings == {"kind": "<builtins.int>", "w": "<Tensor>"}


def test_settings_of_other_programs_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {}, "args": {"ratio": Fraction(1, 3)}}, path)
    with pytest.raises(CheckpointError, match=r"its pickle names 'fractions\.Fraction'"):
        read_official_checkpoint(path)


# The released format.


OFFICIAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "fixtures" / "official"
needs_fixtures = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="the parity fixtures are not beside this repository"
)


class Stub:
    """Stand for a class in the ordinary unpickler."""

    def __init__(self, *_: Any) -> None:
        pass


class StubUnpickler(pickle.Unpickler):
    """An independent reading of a trusted file: the ordinary unpickler, and numpy for weights."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self.read_storage = lambda key: archive.read(f"{folder}/data/{key}")

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("omegaconf"):
            return Stub
        if module == "torch":
            return {"FloatStorage": "<f4", "LongStorage": "<i8"}[name]
        return self.view if name == "_rebuild_tensor_v2" else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, _, _ = pid
        return np.frombuffer(self.read_storage(key), dtype=dtype)

    @staticmethod
    def view(elements: Any, offset: int, shape: Any, strides: Any, *_: Any) -> torch.Tensor:
        steps = [step * elements.itemsize for step in strides]
        view = np.lib.stride_tricks.as_strided(elements[offset:], shape, steps)
        return torch.from_numpy(view.copy())


@needs_fixtures
@pytest.mark.parametrize(
    ("variant", "design", "filters", "count"),
    [
        ("fd_mgf", "freq_resp_samp", "ModulatedGaussianFilters", 80),
        ("td_mgf", "imp_resp_samp", "TDModulatedGaussianFilters", 82),
        ("td_mpgtf", "imp_resp_samp", "MultiPhaseGammaToneFilters", 82),
    ],
)
def test_fixture_equals_an_independent_reading(
    variant: str, design: str, filters: str, count: int
) -> None:
    path = OFFICIAL / f"sfi_convtasnet_{variant}.best_checkpoint"
    checkpoint = read_official_checkpoint(path)
    settings = checkpoint.settings
    assert (checkpoint.epoch, checkpoint.steps) == (3, 123)
    names = ("N", "B", "H", "layers", "stack", "L", "W", "kernel", "sampling_rate")
    assert [settings[name] for name in names] == [48, 16, 24, 3, 2, 160, 80, 3, 32000]
    assert settings["residual_bias"] is False
    for part in ("encoder_params", "decoder_params"):
        assert settings[part]["fir_computation_type"] == design
        assert settings[part]["ContFilterType"] == filters
        assert settings[part]["use_Hilbert_transforms"] is False
        assert settings[part]["filter_params"]["initial_freq_range"] == [50.0, 16000.0]
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        expected = StubUnpickler(archive, folder).load()["state_dict"]
    assert len(expected) == count
    assert list(checkpoint.state_dict) == list(expected)
    for name, tensor in expected.items():
        assert checkpoint.state_dict[name].dtype == tensor.dtype, name
        assert torch.equal(checkpoint.state_dict[name], tensor), name


@needs_fixtures
def test_first_storage_of_a_fixture_by_hand() -> None:
    path = OFFICIAL / "sfi_convtasnet_fd_mgf.best_checkpoint"
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("sfi_convtasnet_fd_mgf/data/0")
    mus = read_official_checkpoint(path).state_dict["stage.encoder.conv.continuous_filters.mus"]
    np.testing.assert_array_equal(mus.numpy(), np.frombuffer(raw, dtype="<f4"))
    # ERB-spaced centres from 50 Hz to 16 kHz, in rad/s.
    np.testing.assert_allclose(mus[[0, -1]] / (2 * np.pi), [50.0, 16000.0], rtol=1e-5)


def doubled_settings() -> Any:
    settings: Any = []
    for _ in range(40):
        settings = [settings, settings]
    return {"a": settings}


def cyclic_settings() -> Any:
    settings: dict[str, Any] = {}
    settings["a"] = settings
    return settings


@pytest.mark.parametrize("make", [doubled_settings, cyclic_settings])
def test_settings_without_end_are_refused(tmp_path: Path, make: Callable[[], Any]) -> None:
    data = pickle.dumps({"state_dict": {}, "args": make()}, 2)
    path = write_zip(tmp_path / "model.pt", data)
    assert isinstance(read_torch_file(path), dict)
    with pytest.raises(CheckpointError, match=r"recursion|over 10000 values"):
        read_official_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1], "got <list>"),
        ({"state_dict": {}}, r"got \['state_dict'\]"),
        ({"state_dict": [], "args": {}}, "'state_dict', got <list>"),
        ({"state_dict": {"w": int}, "args": {}}, "got w: <builtins.int>"),
        ({"state_dict": {1: torch.ones(1)}, "args": {}}, "got 1: <Tensor>"),
        ({"state_dict": {}, "args": [1]}, "'args', got <list>"),
        ({"state_dict": {}, "args": int}, "'args', got <builtins.int>"),
    ],
)
def test_checkpoints_of_another_shape_are_refused(
    tmp_path: Path, content: Any, reason: str
) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=reason):
        read_official_checkpoint(path)


def test_every_truncation_is_refused(synthetic: Path, tmp_path: Path) -> None:
    whole = synthetic.read_bytes()
    cut = tmp_path / "cut.pt"
    for size in range(0, len(whole), 97):
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_official_checkpoint(cut)


@pytest.mark.slow
def test_random_damage_gives_data_or_one_error(synthetic: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(synthetic) as archive:
        (root,) = {name.split("/")[0] for name in archive.namelist()}
        data = archive.read(f"{root}/data.pkl")
        records = {
            f"data__{name.rsplit('/', 1)[1]}": archive.read(name)
            for name in archive.namelist()
            if "/data/" in name
        }
    read_official_checkpoint(write_zip(tmp_path / "model.pt", data, **records))
    generator = random.Random(0)  # noqa: S311
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(data))] = generator.randrange(256)
        path = write_zip(tmp_path / "model.pt", bytes(damaged), **records)
        try:
            read_official_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert 40 < refused < 400
