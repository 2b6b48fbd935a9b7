import copy
import copyreg
import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import types
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.safe_pickle import (
    Placeholder,
    load_pickle_safely,
    read_official_checkpoint,
)

OFFICIAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "fixtures" / "official"
needs_fixtures = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="the parity fixtures are not beside this repository"
)


def write_zip(path: Path, data_pkl: bytes, **records: bytes) -> Path:
    """Write what torch.save would: stored records in one folder; `data__0` is record data/0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", data_pkl)
        for name, content in records.items():
            archive.writestr("model/" + name.replace("__", "/"), content)
    return path


class Reducing:
    """Pickle as a call of a function of the test's choice."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class StorageName:
    """Pickle as a persistent reference to a storage, in the way of torch.save."""

    def __init__(self, kind: type, key: str, numel: int) -> None:
        self.identity = ("storage", kind, key, "cpu", numel)


class StoragePickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, StorageName) else None


def tensor_pickle(
    numel: int, offset: Any, shape: Any, strides: Any, kind: type = torch.FloatStorage
) -> bytes:
    out = io.BytesIO()
    arguments: tuple[Any, ...] = (
        StorageName(kind, "0", numel),
        offset,
        shape,
        strides,
        False,
        OrderedDict(),
    )
    StoragePickler(out, 2).dump(Reducing(torch._utils._rebuild_tensor_v2, *arguments))
    return out.getvalue()


def load_bytes(tmp_path: Path, data_pkl: bytes, **records: bytes) -> Any:
    return load_pickle_safely(write_zip(tmp_path / "model.pt", data_pkl, **records))


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
    content: Any = load_pickle_safely(synthetic)
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
    torch.save({"state_dict": {}, "args": {"ratio": Fraction(1, 3), "w": torch.ones(2)}}, path)
    assert read_official_checkpoint(path).settings == {
        "ratio": "<fractions.Fraction>",
        "w": "<Tensor>",
    }


@pytest.mark.parametrize("protocol", range(6))
def test_plain_containers_survive_every_protocol(tmp_path: Path, protocol: int) -> None:
    shared = [1, "two"]
    tree: dict[Any, Any] = {
        "numbers": [0, 255, 65535, -7, 2**31, 2**80, -(2**2100), 0.1, float("inf"), True, None],
        "strings": ["", "é\n\\", "x" * 300],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        3: [shared, shared],
        "many": {str(i): [i] for i in range(2000)},
        "ordered": OrderedDict(a=1, b=OrderedDict()),
    }
    loaded = load_bytes(tmp_path, pickle.dumps(tree, protocol))
    assert loaded == tree
    assert loaded[3][0] is loaded[3][1]


def test_sets_bytes_and_cycles_of_protocol_5(tmp_path: Path) -> None:
    tree: list[Any] = [{1, 2}, frozenset({3}), b"bytes", bytearray(b"array"), b"y" * 300]
    loaded = load_bytes(tmp_path, pickle.dumps(tree, 5))
    assert loaded == tree
    tree.append(tree)
    loaded = load_bytes(tmp_path, pickle.dumps(tree, 5))
    assert loaded[5] is loaded


# The released format.


class Stub:
    """Stand for a class in the independent reader."""


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
    stubs: list[Any] = [
        (type(name, (Stub,), {}), f"omegaconf.{module}.{name}")
        for module, name in (
            ("dictconfig", "DictConfig"),
            ("listconfig", "ListConfig"),
            ("nodes", "UntypedNode"),
        )
    ]
    with torch.serialization.safe_globals([*stubs, defaultdict, dict]):
        expected = torch.load(path, weights_only=True)["state_dict"]
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


# Files that try to run something. Each is proved live by the ordinary unpickler first.


class Tripwire:
    """Leave a marker when the ordinary unpickler uses any hook of a live object."""

    def __new__(cls, marker: str = "", **_: Any) -> "Tripwire":
        self = super().__new__(cls)
        if marker:
            self.touch(marker)
        return self

    @staticmethod
    def touch(marker: Any, *_: Any) -> None:
        Path(str(marker)).touch()

    append = touch
    __setstate__ = touch
    __setitem__ = touch

    def extend(self, markers: list[str]) -> None:
        self.touch(markers[0])


def string(text: str | Path) -> bytes:
    return b"\x8c" + bytes([len(str(text))]) + str(text).encode()


def run_live(data: bytes, marker: Path) -> None:
    """Show that the attack works on an unpickler that is not ours."""
    pickle.loads(data)  # noqa: S301
    assert marker.exists()
    marker.unlink()


@pytest.mark.parametrize("function", ["os.system", "eval", "exec", "method", "torch.load"])
@pytest.mark.parametrize("protocol", range(6))
def test_calls_do_nothing(tmp_path: Path, protocol: int, function: str) -> None:
    marker = tmp_path / "marker"
    inner = tmp_path / "inner.pt"
    source = f"open({str(marker)!r}, 'w').close()"
    torch.save(Reducing(marker.touch), inner)
    evil = {
        "os.system": Reducing(os.system, f"touch {marker}"),
        "eval": Reducing(eval, source),
        "exec": Reducing(exec, source),
        "method": Reducing(marker.touch),
        "torch.load": Reducing(partial(torch.load, weights_only=False), str(inner)),
    }[function]
    tree = {
        "state_dict": OrderedDict(),
        "optimizer": {"state": [evil], "defaults": {"lr": evil}},
        "args": {"N": 4, "evil": evil},
    }
    data = pickle.dumps(tree, protocol)
    run_live(data, marker)
    path = write_zip(tmp_path / "model.pt", data)
    checkpoint = read_official_checkpoint(path)
    assert checkpoint.settings["N"] == 4
    assert checkpoint.settings["evil"].startswith("<")
    content: Any = load_pickle_safely(path)
    assert isinstance(content["optimizer"]["state"][0], Placeholder)
    assert not marker.exists()


def hand_assembled(name: str, marker: Path) -> bytes:
    command = string(f"touch {marker}")
    tripwire = f"c{Tripwire.__module__}\nTripwire\n".encode()
    return {
        "GLOBAL REDUCE": b"cos\nsystem\n" + command + b"\x85R.",
        "STACK_GLOBAL": string("os") + string("system") + b"\x93" + command + b"\x85R.",
        "INST": b"(" + command + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + command + b"o.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR"
        + command
        + b"\x85R.",
        "NEWOBJ": tripwire + string(marker) + b"\x85\x81.",
        "NEWOBJ_EX": tripwire + b")}" + string("marker") + string(marker) + b"s\x92.",
        "BUILD": tripwire + b")\x81" + string(marker) + b"b.",
        "APPEND": tripwire + b")\x81" + string(marker) + b"a.",
        "APPENDS": tripwire + b")\x81(" + string(marker) + b"e.",
        "SETITEM": tripwire + b")\x81" + string(marker) + b"Ns.",
        "SETITEMS": tripwire + b")\x81(" + string(marker) + b"Nu.",
    }[name]


@pytest.mark.parametrize(
    ("opcode", "kept"),
    [
        ("GLOBAL REDUCE", lambda found: found.args),
        ("STACK_GLOBAL", lambda found: found.args),
        ("INST", lambda found: found.args),
        ("OBJ", lambda found: found.args),
        ("getattr", lambda found: found.args),
        ("NEWOBJ", lambda found: found.args),
        ("NEWOBJ_EX", lambda found: list(found.kwargs.values())),
        ("BUILD", lambda found: [found.state]),
        ("APPEND", lambda found: found.items),
        ("APPENDS", lambda found: found.items),
        ("SETITEM", lambda found: list(found.entries)),
        ("SETITEMS", lambda found: list(found.entries)),
    ],
)
def test_every_opcode_that_can_call_does_nothing(
    tmp_path: Path, opcode: str, kept: Callable[[Placeholder], Any]
) -> None:
    marker = tmp_path / "marker"
    data = b"\x80\x04" + hand_assembled(opcode, marker)
    run_live(data, marker)
    found = load_bytes(tmp_path, data)
    assert isinstance(found, Placeholder)
    assert [str(value).removeprefix("touch ") for value in kept(found)] == [str(marker)]
    assert not marker.exists()


def test_factory_of_a_defaultdict_is_dropped(tmp_path: Path) -> None:
    data = b"\x80\x02ccollections\ndefaultdict\ncos\nsystem\n\x85R."
    assert pickle.loads(data).default_factory is os.system  # noqa: S301
    assert type(load_bytes(tmp_path, data)) is dict


def test_extension_registry_is_not_asked(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    copyreg.add_extension("os", "system", 200)
    try:
        data = b"\x80\x02\x82\xc8" + b"U" + bytes([6 + len(str(marker))])
        data += f"touch {marker}".encode() + b"\x85R."
        run_live(data, marker)  # this fills the cache that skips find_class, too
        with pytest.raises(CheckpointError, match="EXT1"):
            load_bytes(tmp_path, data)
    finally:
        copyreg.remove_extension("os", "system", 200)
        copyreg.clear_extension_cache()
    assert not marker.exists()


@pytest.mark.parametrize(
    "state",
    [
        {"__class__": 1, "__setstate__": 2, "__dict__": 3, "module": "os", "args": (4,)},
        (None, {"__class__": 1, "module": "os", "state": 5}),
        ({"name": "x"}, {"__slots__": ()}),
        "text",
    ],
)
def test_state_of_a_placeholder_stays_data(tmp_path: Path, state: Any) -> None:
    setting = pickle.dumps(state, 2)[2:-1] + b"b"
    found = load_bytes(tmp_path, b"\x80\x02cmodule\nName\n)\x81" + setting + b"Nb" + setting + b".")
    assert type(found) is Placeholder
    assert (found.module, found.name, found.args, found.kwargs) == ("module", "Name", (), {})
    assert found.state == state
    assert not hasattr(found, "__dict__")
    # Neither what is known by name nor the next file is changed by building on a name.
    known = b"ctorch._utils\n_rebuild_tensor_v2\n" + setting + b"0"
    tensor = load_bytes(
        tmp_path,
        b"\x80\x02" + known + tensor_pickle(1, 0, (1,), (1,))[2:],
        data__0=struct.pack("<f", 2.5),
    )
    assert torch.equal(tensor, torch.tensor([2.5]))


def test_placeholder_prints_short_and_plain() -> None:
    assert repr(Placeholder("os", "system", args=("x",) * 10**6)) == "<os.system>"
    assert repr(Placeholder("a\x1b[2J\n", "b")) == "<a?[2J?.b>"
    assert len(repr(Placeholder("m" * 10**6, "n"))) <= 120


def test_numpy_arrays_stay_placeholders(tmp_path: Path) -> None:
    for protocol in range(2, 5):
        found = load_bytes(tmp_path, pickle.dumps({"rng": np.arange(3)}, protocol))["rng"]
        assert isinstance(found, Placeholder)
        assert (found.module.split(".")[0], found.name) == ("numpy", "_reconstruct")


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"Nb", "BUILD to <Tensor>"),
        (b"Na", "APPEND to <Tensor>"),
        (b"K\x00Ns", "SETITEM to <Tensor>"),
        (b")R", "call to <Tensor>"),
        (b"0]Nb", "BUILD to <list>"),
    ],
)
def test_live_objects_are_not_operated_on(tmp_path: Path, opcodes: bytes, reason: str) -> None:
    data = tensor_pickle(4, 0, (4,), (1,))[:-1] + opcodes + b"."
    with pytest.raises(CheckpointError, match=reason):
        load_bytes(tmp_path, data, data__0=bytes(16))


# Files that ask for more than they hold.


@pytest.mark.parametrize(
    ("numel", "offset", "shape", "strides", "reason"),
    [
        (4, 0, (5,), (1,), "does not fit"),
        (4, 1, (4,), (1,), "does not fit"),
        (4, 4, (1,), (1,), "does not fit"),
        (4, 0, (2, 2), (3, 1), "does not fit"),
        (4, 0, (5,), (0,), "does not fit"),
        (4, 0, (10**12,), (0,), "does not fit"),
        (4, 0, (2**40, 2**40), (1, 1), "does not fit"),
        (4, 0, (2,), (2**70,), "does not fit"),
        (4, 0, (0, 2**70), (1, 1), "model.pt"),
        (4, -1, (1,), (1,), "of another kind"),
        (4, 0, (-1,), (1,), "of another kind"),
        (4, 1, (2,), (-1,), "of another kind"),
        (4, 0, (2, 2), (1,), "of another kind"),
        (4, 0, (2.0,), (1,), "of another kind"),
        (4, True, (1,), (1,), "of another kind"),
        (4, 0, 4, (1,), "of another kind"),
        (4, 0, (1,) * 65, (1,) * 65, "of another kind"),
        (5, 0, (4,), (1,), "has 16 bytes, expected 5"),
        (3, 0, (3,), (1,), "has 16 bytes, expected 3"),
        (2**62, 0, (4,), (1,), "has 16 bytes, expected 4611686018427387904"),
        (-4, 0, (4,), (1,), "has 16 bytes, expected -4"),
    ],
)
def test_tensors_must_fit_their_storage(
    tmp_path: Path, numel: int, offset: Any, shape: Any, strides: Any, reason: str
) -> None:
    good = load_bytes(tmp_path, tensor_pickle(4, 0, (4,), (1,)), data__0=bytes(16))
    assert torch.equal(good, torch.zeros(4))
    data = tensor_pickle(numel, offset, shape, strides)
    with pytest.raises(CheckpointError, match=reason):
        load_bytes(tmp_path, data, data__0=bytes(16))


def test_few_views_may_share_a_storage(tmp_path: Path) -> None:
    one = tensor_pickle(1000, 0, (1000,), (1,))[2:-1]
    for count, fits in ((4, True), (1000, False)):
        data = b"\x80\x02(" + one * count + b"l."
        if fits:
            assert len(load_bytes(tmp_path, data, data__0=bytes(4000))) == count
        else:
            with pytest.raises(CheckpointError, match="too often"):
                load_bytes(tmp_path, data, data__0=bytes(4000))


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ({}, "no item named 'model/data/0'"),
        ({"data__0": bytes(15)}, "multiple"),
        ({"data__0": b""}, "has 0 bytes"),
        ({"data__0": bytes(20)}, "has 20 bytes"),
        ({"data__0": bytes(16), "byteorder": b"big"}, "byte order is b'big'"),
    ],
)
def test_storage_records_must_be_as_named(
    tmp_path: Path, records: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        load_bytes(tmp_path, tensor_pickle(4, 0, (4,), (1,)), **records)


def test_storages_of_other_kinds_are_refused(tmp_path: Path) -> None:
    data = tensor_pickle(4, 0, (4,), (1,), kind=torch.QInt32Storage)
    with pytest.raises(CheckpointError, match=r"torch\.QInt32Storage, not to one of"):
        load_bytes(tmp_path, data, data__0=bytes(16))
    named = b"(" + string("storage") + b"c%s\nFloatStorage\n" + string("0") + b"NK\x04t"
    assert torch.equal(
        load_bytes(tmp_path, named % b"torch" + b"Q.", data__0=bytes(16)), torch.zeros(4)
    )
    for identity in (b"N", b"K\x01\x85", named % b"os"):
        with pytest.raises(CheckpointError, match="not to the name of a torch storage"):
            load_bytes(tmp_path, identity + b"Q.", data__0=bytes(16))


def test_records_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\x80\x02N.")
        archive.writestr("model/data/0", bytes(2**24))
    assert path.stat().st_size < 2**16
    with pytest.raises(CheckpointError, match="records unpack to"):
        load_pickle_safely(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02N.")
        archive.writestr("model/data/0", bytes(2**16))
        for key in range(1, 100):
            twin = copy.copy(archive.filelist[1])
            twin.filename = f"model/data/{key}"
            archive.filelist.append(twin)
    with pytest.raises(CheckpointError, match="records unpack to"):
        load_pickle_safely(path)


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"\x8d" + struct.pack("<Q", 2**62) + b"x", "expected 4611686018427387904 bytes"),
        (b"\x8e" + struct.pack("<Q", 2**40) + b"x", "expected 1099511627776 bytes"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"x", "expected 1099511627776 bytes"),
        (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x", "not enough data"),
        (b"\x8b" + struct.pack("<i", -1) + b"x", "byte count < 0"),
        (b"I" + b"9" * 5000 + b"\n", "Exceeds the limit"),
        (b"\x97", "NEXT_BUFFER"),
        (b"Pname\n", "PERSID"),
        (b"h\x01", "BINGET at byte 2 lacks"),
        (b"0", "POP at byte 2 lacks"),
        (b"t", "TUPLE at byte 2 lacks"),
        (b"R", "REDUCE at byte 2 lacks"),
        (b"(o", "OBJ at byte 3 lacks"),
        (b"", "IndexError"),
        (b"}NN\x85R", "call to <NoneType>"),
        (b"}NR", "call to <dict>"),
        (b"cos\nsystem\nNR", "a call to <os.system> with <NoneType>"),
        (b"cos\nsystem\n)N\x92", "a call to <os.system> with <tuple> and <NoneType>"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR", "of another kind"),
        (b"}]Ns", "hashing to <list>"),
        (b"\x8f(]\x90", "hashing to <list>"),
        (b"(]\x91", "hashing to <list>"),
        (b"(NNNd", "shorter"),
        (b"X\x01\0\0\0aK\x01\x93", "look-up to <int>"),
        (b"K\x01X\x01\0\0\0a\x93", "in <int>"),
        (b"\xff", "unknown"),
    ],
)
def test_senseless_opcodes_are_refused(tmp_path: Path, opcodes: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        load_bytes(tmp_path, b"\x80\x04" + opcodes + b".")


def test_memo_is_not_sized_by_the_file(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        assert load_bytes(tmp_path, b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7fa.") is not None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_deep_nesting_does_not_overflow_the_stack(tmp_path: Path) -> None:
    # The ordinary unpickler of Python 3.11 crashes on this one.
    deep_key = b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
    with pytest.raises(CheckpointError, match="hashing to <tuple>"):
        load_bytes(tmp_path, deep_key)
    depth = 50_000
    found = load_bytes(tmp_path, b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    for _ in range(depth - 1):
        (found,) = found
    assert found == []
    calls = b"cmodule\nName\n" + b")R" * depth
    assert isinstance(load_bytes(tmp_path, b"\x80\x02" + calls + b"."), Placeholder)
    chain = b"\x80\x02" + b"cm\nn\n" * depth + b"b" * (depth - 1) + b"."
    found = load_bytes(tmp_path, chain)
    for _ in range(depth - 1):
        found = found.state
    assert found.state is None


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
    assert isinstance(load_pickle_safely(path), dict)
    with pytest.raises(CheckpointError, match=r"recursion|over 10000 values"):
        read_official_checkpoint(path)


# Files of another kind, and damaged ones.


def test_other_files_are_refused_by_path(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"state_dict": {}}))
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("model/other.pkl", b"\x80\x02N.")
    with zipfile.ZipFile(tmp_path / "two", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr("b/data.pkl", b"\x80\x02N.")
    write_zip(tmp_path / "large", bytes(5 * 2**20))
    for name, reason in {
        "empty": "the file is empty",
        "text": "not a zip file",
        "pickle": "not a zip file",
        "folder": "Is a directory",
        "missing": "No such file",
        "zip": "found 0",
        "two": "found 2",
        "large": "expected at most",
    }.items():
        with pytest.raises(CheckpointError, match=reason) as caught:
            load_pickle_safely(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_legacy_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "legacy.pt"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="legacy format"):
        load_pickle_safely(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1], "found <list>"),
        ({"state_dict": {}}, r"found \['state_dict'\]"),
        ({"state_dict": [], "args": {}}, "'state_dict', found <list>"),
        ({"state_dict": {"w": Fraction(1, 2)}, "args": {}}, "found w: <fractions.Fraction>"),
        ({"state_dict": {1: torch.ones(1)}, "args": {}}, "found 1: <Tensor>"),
        ({"state_dict": {}, "args": [1]}, "'args', found <list>"),
        ({"state_dict": {}, "args": Fraction(1, 2)}, "'args', found <fractions.Fraction>"),
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


def test_random_damage_gives_data_or_one_error(synthetic: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(synthetic) as archive:
        (root,) = {name.split("/")[0] for name in archive.namelist()}
        data = archive.read(f"{root}/data.pkl")
        records = {
            f"data__{name.rsplit('/', 1)[1]}": archive.read(name)
            for name in archive.namelist()
            if "/data/" in name
        }
    assert set(load_bytes(tmp_path, data, **records)) > {"state_dict", "args"}
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
