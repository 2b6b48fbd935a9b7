import copy
import copyreg
import io
import os
import pickle
import struct
import threading
import tracemalloc
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.official_checkpoint import read_official_checkpoint
from sfisep_core.pretrained.torch_files import Placeholder, describe, read_torch_file
from sfisep_core.training.checkpoint import load_checkpoint

# Both ways into the program, by what they allow.
READERS = [read_official_checkpoint, load_checkpoint]


def write_zip(path: Path, data_pkl: bytes, **records: bytes) -> Path:
    """Write what torch.save would: stored records in one folder; `data__0` is record data/0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", data_pkl)
        for name, content in {"version": b"3\n", **records}.items():
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
    return read_torch_file(write_zip(tmp_path / "model.pt", data_pkl, **records))


# What honest files hold.


@pytest.mark.slow
def test_trees_come_back(tmp_path: Path) -> None:
    shared = [1, "two"]
    tree: dict[Any, Any] = {
        "numbers": [0, 255, 65535, -7, 2**31, 2**80, 0.1, float("inf"), True, None, 1 + 0],
        "strings": ["", "é\n\\", "x" * 300],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        3: [shared, shared],
        "many": {str(i): [i] for i in range(20_000)},
        "ordered": OrderedDict(a=1, b=OrderedDict()),
        "default": defaultdict(list, a=[1]),
        "tensor": torch.arange(6.0).reshape(2, 3).T,
    }
    tree["default"].default_factory = None
    torch.save(tree, tmp_path / "model.pt")
    loaded: Any = read_torch_file(tmp_path / "model.pt")
    assert loaded[3][0] is loaded[3][1]
    assert type(loaded["default"]) is dict
    torch.testing.assert_close(loaded.pop("tensor"), tree.pop("tensor"), rtol=0, atol=0)
    assert loaded == tree


def test_a_tree_may_contain_itself(tmp_path: Path) -> None:
    tree: list[Any] = [torch.ones(2)]
    tree.append(tree)
    torch.save(tree, tmp_path / "model.pt")
    loaded: Any = read_torch_file(tmp_path / "model.pt")
    assert loaded[1] is loaded


def test_views_of_one_storage(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    torch.save([whole, whole[3:9:2], whole[:4].reshape(2, 2)], tmp_path / "model.pt")
    loaded: Any = read_torch_file(tmp_path / "model.pt")
    assert loaded[1].tolist() == [3, 5, 7]
    assert loaded[2].tolist() == [[0, 1], [2, 3]]


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
    """Pickle a string with an opcode of protocol 2."""
    return b"X" + struct.pack("<I", len(str(text))) + str(text).encode()


def run_live(data: bytes, marker: Path) -> None:
    """Show that the attack works on an unpickler that is not ours."""
    pickle.loads(data)  # noqa: S301
    assert marker.exists()
    marker.unlink()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("function", ["os.system", "eval", "exec", "method"])
@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_refused(
    tmp_path: Path, protocol: int, function: str, read: Callable[[Path], object]
) -> None:
    marker = tmp_path / "marker"
    source = f"open({str(marker)!r}, 'w').close()"
    evil = {
        "os.system": Reducing(os.system, f"touch {marker}"),
        "eval": Reducing(eval, source),
        "exec": Reducing(exec, source),
        "method": Reducing(marker.touch),
    }[function]
    data = pickle.dumps({"state_dict": OrderedDict(), "args": {"N": 4, "evil": evil}}, protocol)
    run_live(data, marker)
    path = write_zip(tmp_path / "model.pt", data)
    # What the placeholders of settings may be named is data: nothing is called.
    if read is read_official_checkpoint and protocol in (1, 2) and function in ("eval", "exec"):
        assert read_official_checkpoint(path).settings["evil"] == f"<builtins.{function}>"
    else:
        with pytest.raises(CheckpointError):
            read(path)
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


@pytest.mark.parametrize("placeholders", [(), ("os", "posix", "builtins", "tests")])
@pytest.mark.parametrize(
    "opcode",
    [
        "GLOBAL REDUCE",
        "STACK_GLOBAL",
        "INST",
        "OBJ",
        "getattr",
        "NEWOBJ",
        "NEWOBJ_EX",
        "BUILD",
        "APPEND",
        "APPENDS",
        "SETITEM",
        "SETITEMS",
    ],
)
def test_every_opcode_that_can_call_does_nothing(
    tmp_path: Path, opcode: str, placeholders: tuple[str, ...]
) -> None:
    marker = tmp_path / "marker"
    data = b"\x80\x02" + hand_assembled(opcode, marker)
    run_live(data, marker)
    path = write_zip(tmp_path / "model.pt", data)
    if placeholders and opcode in ("NEWOBJ", "BUILD"):
        loaded = read_torch_file(path, placeholders=placeholders)
        assert isinstance(loaded, Placeholder)
        assert describe(loaded) == f"<{Tripwire.__module__}.Tripwire>"
    else:
        with pytest.raises(CheckpointError):
            read_torch_file(path, placeholders=placeholders)
    assert not marker.exists()


def test_factory_of_a_defaultdict_is_not_called(tmp_path: Path) -> None:
    data = b"\x80\x02ccollections\ndefaultdict\ncbuiltins\nexit\n\x85R."
    assert pickle.loads(data).default_factory is exit  # noqa: S301
    path = write_zip(tmp_path / "model.pt", data)
    assert type(read_torch_file(path, placeholders=("builtins",))) is dict


def test_extension_registry_is_not_asked(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    copyreg.add_extension("os", "system", 200)
    try:
        data = b"\x80\x02\x82\xc8" + string(f"touch {marker}") + b"\x85R."
        run_live(data, marker)  # this fills the cache that skips find_class, too
        with pytest.raises(CheckpointError):
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
    path = write_zip(
        tmp_path / "model.pt", b"\x80\x02comegaconf\nName\n)\x81" + setting + b"Nb" + setting + b"."
    )
    loaded = read_torch_file(path, placeholders=("omegaconf",))
    assert isinstance(loaded, Placeholder)
    assert (loaded.module, loaded.name, loaded.args) == ("omegaconf", "Name", ())
    assert loaded.state == state
    # Neither what is known by name nor the next file is changed by building on a name.
    known = b"ctorch._utils\n_rebuild_tensor_v2\n" + setting + b"0"
    with pytest.raises(CheckpointError):
        load_bytes(
            tmp_path,
            b"\x80\x02" + known + tensor_pickle(1, 0, (1,), (1,))[2:],
            data__0=struct.pack("<f", 2.5),
        )
    assert load_bytes(tmp_path, tensor_pickle(1, 0, (1,), (1,)), data__0=bytes(4)).tolist() == [0]


def test_descriptions_are_short_and_plain() -> None:
    kind = type("Kind", (Placeholder,), {"module": "a\x1b[2J\n", "name": "b" * 10**6})
    assert describe(kind("x" * 10**6)).startswith("<a?[2J?.bbb")
    assert len(describe(kind())) <= 120
    assert describe([1]) == "<list>"


@pytest.mark.parametrize(
    "content",
    [
        np.arange(3),
        Fraction(1, 3),
        Namespace(a=1),
        bytearray(5),
        b"bytes",
        {1, 2},
        Counter("abc"),
        torch.Size([1]),
        torch.device("cpu"),
        torch.float32,
        torch.eye(2).to_sparse(),
        torch.eye(2, device="meta"),
    ],
    ids=lambda content: type(content).__name__,
)
def test_what_torch_would_build_but_no_checkpoint_needs_is_refused(
    tmp_path: Path, content: object
) -> None:
    torch.save({"value": content}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="its pickle names '"):
        read_torch_file(tmp_path / "model.pt")


@pytest.mark.parametrize("opcodes", [b"Na", b"K\x00Ns", b")R", b"0]Nb", b"Nb"])
def test_live_objects_are_not_operated_on(tmp_path: Path, opcodes: bytes) -> None:
    data = tensor_pickle(4, 0, (4,), (1,))[:-1] + opcodes + b"."
    with pytest.raises(CheckpointError):
        load_bytes(tmp_path, data, data__0=bytes(16))


def test_a_storage_is_not_made_larger_by_the_state_of_a_tensor(tmp_path: Path) -> None:
    tensor = tensor_pickle(4, 0, (4,), (1,))[:-1]  # torch applies `set_` to such a state
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
    state = b"(" + storage + b"K\x00J" + struct.pack("<i", 2**29) + b"\x85K\x01\x85tb."
    with pytest.raises(CheckpointError):
        load_bytes(tmp_path, tensor + state, data__0=bytes(16))


# Files that ask for more than they hold.


@pytest.mark.parametrize(
    ("numel", "offset", "shape", "strides"),
    [
        (4, 0, (5,), (1,)),
        (4, 1, (4,), (1,)),
        (4, 4, (1,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (4, 0, (5,), (0,)),
        (4, 0, (2**29,), (1,)),
        (4, 0, (10**12,), (0,)),
        (4, 0, (2**40, 2**40), (1, 1)),
        (4, 0, (2**33, 2**33), (2**33, 1)),
        (4, 0, (2,), (2**70,)),
        (4, 0, (0, 2**70), (1, 1)),
        (4, -1, (1,), (1,)),
        (4, 0, (-1,), (1,)),
        (4, 1, (2,), (-1,)),
        (4, 0, (2,), (-(2**40),)),
        (4, 0, (2, 2), (1,)),
        (4, 0, (2.0,), (1,)),
        (4, 0, "four", (1,)),
        (5, 0, (4,), (1,)),
        (3, 0, (3,), (1,)),
        (2**62, 0, (4,), (1,)),
        (-4, 0, (4,), (1,)),
    ],
)
def test_tensors_must_fit_their_storage(
    tmp_path: Path, numel: int, offset: Any, shape: Any, strides: Any
) -> None:
    good = load_bytes(tmp_path, tensor_pickle(4, 0, (4,), (1,)), data__0=bytes(16))
    assert torch.equal(good, torch.zeros(4))
    data = tensor_pickle(numel, offset, shape, strides)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        load_bytes(tmp_path, data, data__0=bytes(16))


def test_few_views_may_share_a_storage(tmp_path: Path) -> None:
    one = tensor_pickle(1000, 0, (1000,), (1,))[2:-1]
    for count, fits in ((4, True), (1000, False)):
        data = b"\x80\x02](" + one * count + b"e."
        if fits:
            assert len(load_bytes(tmp_path, data, data__0=bytes(4000))) == count
        else:
            with pytest.raises(CheckpointError, match="too often"):
                load_bytes(tmp_path, data, data__0=bytes(4000))


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"data__0": bytes(15)},
        {"data__0": b""},
        {"data__0": bytes(20)},
        {"data__0": bytes(16), "byteorder": b"big"},
    ],
)
def test_storage_records_must_be_as_named(tmp_path: Path, records: dict[str, bytes]) -> None:
    with pytest.raises(CheckpointError):
        load_bytes(tmp_path, tensor_pickle(4, 0, (4,), (1,)), **records)


def test_storages_of_other_kinds_are_refused(tmp_path: Path) -> None:
    data = tensor_pickle(4, 0, (4,), (1,), kind=torch.QInt32Storage)
    with pytest.raises(CheckpointError, match=r"names 'torch\.QInt32Storage'"):
        load_bytes(tmp_path, data, data__0=bytes(16))
    for identity in (b"N", b"K\x01\x85", b"(X\x07\0\0\0storageNNNNt", b")"):
        with pytest.raises(CheckpointError):
            load_bytes(tmp_path, b"\x80\x02" + identity + b"Q.", data__0=bytes(16))


def test_a_flipped_bit_in_a_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.full((100,), 1.5)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<f", 1.5) * 100)] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        read_torch_file(path)


def test_records_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", tensor_pickle(2**22, 0, (2**22,), (1,)))
        archive.writestr("model/data/0", bytes(2**24))
    assert path.stat().st_size < 2**16
    with pytest.raises(CheckpointError, match="records unpack to"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02N.")
        archive.writestr("model/data/0", bytes(2**16))
        for key in range(1, 100):
            twin = copy.copy(archive.filelist[1])
            twin.filename = f"model/data/{key}"
            archive.filelist.append(twin)
    with pytest.raises(CheckpointError, match="records unpack to"):
        read_torch_file(path)


def test_pickles_larger_than_honest_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected at most 4194304"):
        load_bytes(tmp_path, bytes(5 * 2**20))


def test_a_record_has_no_second_spelling(tmp_path: Path) -> None:
    # torch finds data/AB when it is asked for data/ab: each spelling would be one more copy.
    data = tensor_pickle(2**21, 0, (2**21,), (1,)).replace(b"X\x01\0\0\x000", b"X\x02\0\0\0ab")
    with pytest.raises(CheckpointError, match="data/AB"):
        load_bytes(tmp_path, data, data__AB=bytes(2**23))


def two_directories(tmp_path: Path, *, prefix: bytes = b"", comment: bytes = b"") -> Path:
    path = write_zip(tmp_path / "model.pt", b"\x80\x02N.")
    whole = path.read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    if comment:
        whole = whole[: end + 20] + struct.pack("<H", len(comment)) + comment
    path.write_bytes(prefix + whole)
    return path


def test_a_file_has_one_directory(tmp_path: Path) -> None:
    assert read_torch_file(two_directories(tmp_path)) is None
    inner = two_directories(tmp_path).read_bytes()
    for path in (
        lambda: two_directories(tmp_path, prefix=inner),
        lambda: two_directories(tmp_path, comment=b"PK\x05\x06" + bytes(18)),
        lambda: two_directories(tmp_path, comment=inner),
    ):
        with pytest.raises(CheckpointError):
            read_torch_file(path())


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x8d" + struct.pack("<Q", 2**62) + b"x",
        b"\x8e" + struct.pack("<Q", 2**40) + b"x",
        b"\x96" + struct.pack("<Q", 2**40) + b"x",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x",
        b"\x8b" + struct.pack("<i", -1) + b"x",
        b"X\xff\xff\xff\xffx",
        b"I" + b"9" * 5000 + b"\n",
        b"\x97",
        b"Pname\n",
        b"h\x01",
        b"0",
        b"t",
        b"R",
        b"(o",
        b"",
        b"}NN\x85R",
        b"}NR",
        b"cos\nsystem\nNR",
        b"cos\nsystem\n)N\x92",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR",
        b"}]Ns",
        b"\x8f(]\x90",
        b"(]\x91",
        b"\x8f",
        b"(NNNd",
        b"X\x01\0\0\0aK\x01\x93",
        b"\xff",
        b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R",
        b"ccollections\nOrderedDict\nJ\xff\xff\xff\x7f\x85R",
    ],
)
@pytest.mark.parametrize("placeholders", [(), ("os", "collections")])
def test_senseless_opcodes_are_refused(
    tmp_path: Path, opcodes: bytes, placeholders: tuple[str, ...]
) -> None:
    path = write_zip(tmp_path / "model.pt", b"\x80\x02" + opcodes + b".")
    with pytest.raises(CheckpointError):
        read_torch_file(path, placeholders=placeholders)


def test_memo_is_not_sized_by_the_file(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        loaded = load_bytes(tmp_path, b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7fa.")
        assert loaded[0] is loaded
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("read", READERS)
def test_deep_nesting_does_not_overflow_the_stack(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    # The ordinary unpickler of Python 3.11 and torch's crash on the first one.
    depth = 300_000
    for opcodes in (
        b"})" + b"\x85" * depth + b"Ns.",
        b"})" + b"q\0h\0\x86" * 150_000 + b"Ns.",
        b"}(" + b"(" * depth + b"t" * depth + b"Nu.",
        b"]" * depth + b"a" * (depth - 1) + b".",
        b"ccollections\nOrderedDict\n(" + b")" + b"\x85" * depth + b"N\x86\x85tR.",
        b"comegaconf\nName\n" + b")R" * depth + b".",
        b"comegaconf\nName\n" * 100_000 + b"b" * 99_999 + b".",
        tensor_pickle(4, 0, (4,), (1,))[2:-1] + b")" + b"\x85" * depth + b"b.",
    ):
        path = write_zip(tmp_path / "model.pt", b"\x80\x02" + opcodes, data__0=bytes(16))
        with pytest.raises(CheckpointError, match=r"nests values more than 64|names 'omegaconf"):
            read(path)


@pytest.mark.slow
def test_depth_that_only_shows_when_it_is_built_is_harmless(tmp_path: Path) -> None:
    depth = 20_000
    put, get = (lambda n, code=code: code + struct.pack("<I", n) for code in (b"r", b"j"))
    links = b"".join(b"]" + put(n) + get(n - 1) + b"a" for n in range(1, depth))
    data = b"\x80\x02]" + put(0) + links
    nested = load_bytes(tmp_path, data + b".")
    for _ in range(depth - 1):
        (nested,) = nested
    assert nested == []
    with pytest.raises(CheckpointError, match="unhashable"):
        load_bytes(tmp_path, data + b"}" + get(depth - 1) + b"\x85Ns.")


def test_shared_branches_are_walked_once(tmp_path: Path) -> None:
    # 40 lists that hold the one before twice: 2**40 leaves for who follows every reference.
    data = b"\x80\x02]" + b"".join(b"q\0](h\0h\0e" for _ in range(40)) + b"."
    assert len(load_bytes(tmp_path, data)) == 2


# torch's list of names is one for the process.


def test_what_others_allow_stays_allowed(tmp_path: Path) -> None:
    torch.save(Namespace(a=Fraction(1, 3)), tmp_path / "model.pt")
    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([Fraction]):
        read_torch_file(tmp_path / "model.pt", placeholders=("argparse", "fractions"))
        assert set(torch.serialization.get_safe_globals()) == {*before, Fraction}


@pytest.mark.slow
def test_threads_do_not_take_each_others_names_away(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": [Namespace(n=i) for i in range(200)]}, path)
    before = torch.serialization.get_safe_globals()
    failures: list[BaseException] = []

    def read_often() -> None:
        try:
            for _ in range(10):
                read_torch_file(path, placeholders=("argparse",))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(torch.serialization.get_safe_globals()) == set(before)
