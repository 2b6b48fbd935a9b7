"""Read files of `torch.save` without running code from them, and within limits.

torch's own reader (`weights_only=True`) runs a subset of the pickle language and only calls listed
functions. A malicious file can still do harm: compressed records unpack to any size, functions on
torch's list allocate any requested size, and hashing a deeply nested tuple overflows the C stack of
the process. So the directory of the zip file and the opcodes of its pickle are checked first, as
data, and only files that pass are given to torch.
"""

import re
import struct
import threading
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.pretrained.file_kinds import check_kind
from sfisep_core.pretrained.pickle_check import check_pickle

# Tensor data are outside the pickle, which takes about 250 bytes per tensor. One byte of it can
# create an object of 64 bytes or more.
_MAX_PICKLE_BYTES = 4 * 2**20
# Maximum average number of tensors that share a byte: tied weights share storages, but many views
# of one storage would exhaust memory when they are copied.
_MAX_SHARING = 4

_STORAGES = (
    *("DoubleStorage", "FloatStorage", "HalfStorage", "BFloat16Storage"),
    *("LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"),
    *("ComplexDoubleStorage", "ComplexFloatStorage"),
)
# Names that torch's reader builds itself, never larger than the file.
_BUILT_BY_TORCH = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        *(f"torch.{name}" for name in _STORAGES),
    }
)
# Names of Python 3 types in pickles of protocol 2.
_OLD_NAMES = {"__builtin__.long": "builtins.int", "__builtin__.unicode": "builtins.str"}
# torch's list of allowed names is global to the process.
_lock = threading.Lock()


class Placeholder:
    """Placeholder of an object whose class is not imported, with its data from the file.

    Every name in a file gets its own subclass.

    Attributes:
        module: Module of the name in the file.
        name: Name in that module.
        args: Positional arguments of the call that would have built the object.
        state: What the file would have given to `__setstate__`; None when nothing.
    """

    module = name = ""
    args: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *args: Any) -> None:
        """Store the arguments without using them."""
        self.args = args

    def __setstate__(self, state: Any) -> None:
        """Store the state without using it."""
        self.state = state


def read_torch_file(path: Path, *, placeholders: Collection[str] = ()) -> object:
    """Read the object in a file of `torch.save`, without running code from the file.

    Concurrent calls are serialised, because torch's list of allowed names is global to the process.
    Another thread that calls `torch.load` meanwhile gets placeholders for the same names. Names
    that the program itself has added to that list are built by torch.

    Args:
        path: A file in the zip format of torch 1.6 and later, little-endian, uncompressed.
        placeholders: Top-level modules whose names may occur and are kept as `Placeholder`.

    Returns:
        A tree of dict, list, tuple, scalars, CPU tensors and placeholders. A defaultdict becomes a
        dict. No tensor extends beyond its storage in the file.

    Raises:
        CheckpointError: The file is missing, damaged, of another format, uses a name that is not
            allowed, or requests more memory than the file's size justifies.
    """
    check_kind(path, "torch")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            size = path.stat().st_size
            names = check_pickle(_read_pickle(archive, file, size))
        content = _load(path, _stand_ins(names, placeholders))
        _check_tensors(content, _MAX_SHARING * size)
    except CheckpointError:
        raise
    except Exception as error:  # an untrusted file can make any layer below fail in any way
        raise_received()
        reason = _reason(error)
        msg = (
            f"checkpoint {path}: cannot be read: {reason} ({type(error).__name__}): expected a "
            "file that torch.save wrote in its zip format: check the path, or fetch the file again "
            "and compare its sha256 with the published one"
        )
        raise CheckpointError(msg) from error
    return content


def _reason(error: Exception) -> str:
    # Remove torch's advice to load the file without protection.
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return (text.splitlines() or ["no detail"])[0][:300]


def _read_pickle(archive: zipfile.ZipFile, file: BinaryIO, size: int) -> bytes:
    """Check the directory of the archive against the file, and read its one pickle."""
    _check_end(archive, file, size)
    records = archive.infolist()
    names = [record.filename for record in records]
    pickles = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1 or len(set(names)) != len(names):
        msg = f"expected one record <folder>/data.pkl in the zip file, got {len(pickles)}"
        raise ValueError(msg)
    folder = pickles[0].removesuffix("data.pkl")
    # torch.save stores records uncompressed, so their sizes never add up to more than the file;
    # compressed or overlapping records could unpack a small file to any size.
    total = sum(record.file_size for record in records)
    if total > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        msg = f"its records unpack to {total} bytes, expected uncompressed ones in {size} bytes"
        raise ValueError(msg)
    for record in records:
        # torch ignores case in names: with names other than numbers one record could be read many
        # times.
        is_storage = re.fullmatch(re.escape(folder) + r"data/[0-9]+", record.filename)
        if not is_storage and record.file_size > _MAX_PICKLE_BYTES:
            msg = (
                f"its record {record.filename[:80]!r} has {record.file_size} bytes, expected at "
                f"most {_MAX_PICKLE_BYTES}"
            )
            raise ValueError(msg)
    order = folder + "byteorder"
    if order in names and (byte_order := archive.read(order)) != b"little":
        msg = f"its byte order is {byte_order[:16]!r}, expected b'little'"
        raise ValueError(msg)
    if (damaged := archive.testzip()) is not None:  # torch's reader does not verify checksums
        msg = f"its record {damaged[:80]!r} is damaged: the checksum differs"
        raise ValueError(msg)
    return archive.read(pickles[0])


def _check_end(archive: zipfile.ZipFile, file: BinaryIO, size: int) -> None:
    """Check that another zip reader could not find another directory."""
    file.seek(max(0, size - 98))
    tail = file.read()
    end64, locator, end = tail[:-42], tail[-42:-22], tail[-22:]
    consistent = end.startswith(b"PK\x05\x06") and end.endswith(b"\0\0")
    if locator.startswith(b"PK\x06\x07"):
        (at,) = struct.unpack("<Q", locator[8:16])
        consistent &= at == size - 98 and end64.startswith(b"PK\x06\x06")
        (start,) = struct.unpack("<Q", end64[48:56])
    else:
        (start,) = struct.unpack("<L", end[16:20])
    if not consistent or start != archive.start_dir:
        msg = "its zip directory does not lie at the end of the file"
        raise ValueError(msg)


def _stand_ins(
    names: set[str], placeholders: Collection[str]
) -> list[tuple[Callable[..., Any], str]]:
    """Choose replacements for names of a file that torch's reader does not build itself."""
    stand_ins: list[tuple[Callable[..., Any], str]] = []
    for full_name in sorted(names - _BUILT_BY_TORCH):
        full_name = _OLD_NAMES.get(full_name, re.sub(r"^__builtin__\.", "builtins.", full_name))
        module, _, name = full_name.rpartition(".")
        if full_name == "collections.defaultdict":
            stand_ins.append((_plain_dict, full_name))
        elif module.partition(".")[0] in placeholders:
            kind = type("Placeholder", (Placeholder,), {"module": module, "name": name})
            stand_ins.append((kind, full_name))
        else:
            msg = (
                f"its pickle names {full_name[:100]!r}, which is neither a tensor nor a plain "
                "container or number"
            )
            raise ValueError(msg)
    return stand_ins


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}  # its items follow; plain data need no factory


def _load(path: Path, stand_ins: list[tuple[Callable[..., Any], str]]) -> object:
    with _lock, torch.serialization.safe_globals(list(stand_ins)):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_tensors(content: object, most_bytes: int) -> None:
    """Check that copies of the tensors are not much larger than the file."""
    for tensor in _tensors(content):
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        last = tensor.storage_offset() + sum((n - 1) * step for n, step in sizes)
        elements = tensor.untyped_storage().nbytes() // tensor.itemsize
        most_bytes -= tensor.nbytes
        outside = min(tensor.stride(), default=0) < 0 or last >= elements
        if tensor.numel() and (outside or tensor.numel() > elements or most_bytes < 0):
            msg = (
                f"a tensor of shape {tuple(tensor.shape)} does not fit in its storage of "
                f"{elements} elements, or shares its bytes too often"
            )
            raise ValueError(msg)


def _tensors(content: object) -> Iterator[torch.Tensor]:
    """Yield the tensors of a tree that may contain itself, without recursion."""
    seen: set[int] = set()
    left = [content]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        match node:
            case torch.Tensor():
                yield node
            case dict():
                left += [*node.keys(), *node.values()]
            case list() | tuple():
                left += node
            case Placeholder():
                left += [*node.args, node.state]


def describe(value: object) -> str:
    """Return the type name of a value from a file, or the name of a placeholder.

    Args:
        value: Any value.

    Returns:
        The name in angle brackets, never the contents.
    """
    kind = value if isinstance(value, type) else type(value)
    name = kind.__name__
    if issubclass(kind, Placeholder):
        name = f"{kind.module}.{kind.name}"
    return f"<{''.join(letter if letter.isprintable() else '?' for letter in name[:118])}>"
