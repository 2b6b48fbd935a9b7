"""Read a PyTorch checkpoint as data: no code from the file runs, no name in it is imported."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.pickle_machine import PickleMachine, Placeholder, describe

__all__ = ["OfficialCheckpoint", "Placeholder", "load_pickle_safely", "read_official_checkpoint"]

# Tensor bytes lie beside the pickle, which takes about 250 bytes for each tensor. One byte of it
# can ask for an object of 64 bytes or more.
_MAX_PICKLE_BYTES = 4 * 2**20
# How often each byte of a file may be part of a tensor, on average.
_MAX_SHARING = 4
# The released settings have about 100 values; shared references could fan out without end.
_MAX_SETTINGS = 10_000
# The first pickle in files that torch.save wrote before torch 1.6, after its protocol number.
_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")


@dataclass(frozen=True)
class OfficialCheckpoint:
    """Hold what a checkpoint of the released SFI Conv-TasNet says.

    Args:
        state_dict: Weights by parameter name, on the CPU, without gradient.
        settings: The training settings as nested dict, list, str, int, float, bool and None.
            A value of another kind is replaced by its name in angle brackets.
        epoch: Epoch of the checkpoint; None when the file does not give a whole number.
        steps: Optimizer steps so far; None when the file does not give a whole number.
    """

    state_dict: dict[str, torch.Tensor]
    settings: dict[str, Any]
    epoch: int | None
    steps: int | None


def load_pickle_safely(path: Path) -> object:
    """Read the object that `torch.save` wrote, without running code from the file.

    Args:
        path: A checkpoint in the zip format of torch 1.6 and later, little-endian, whose records
            unpack to no more than its own size.

    Returns:
        A tree of dict, list, tuple, set, scalars, CPU tensors, and a `Placeholder` for the rest.
        Parameters become plain tensors; an OrderedDict or defaultdict becomes a dict. Keys are
        numbers, strings or placeholders.

    Raises:
        CheckpointError: The file is missing, damaged, of another format, or asks for more than
            its own bytes hold.
    """
    with _refusal(path), path.open("rb") as file:
        head = file.read(16)
        if not head:
            msg = "the file is empty"
            raise ValueError(msg)
        if head[2:14] == _LEGACY_MAGIC:
            msg = (
                f"{path}: is in the legacy format that torch.save wrote before torch 1.6; expected "
                "its zip format. Where you trust the file, load it with torch and save it again."
            )
            raise CheckpointError(msg)
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive, path.stat().st_size)


def read_official_checkpoint(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of the released SFI Conv-TasNet, without running code from the file.

    Args:
        path: A file with `state_dict`, `args` and optionally `epoch` and `steps`; other entries,
            such as the optimizer's, are ignored.

    Returns:
        The weights and settings in plain types.

    Raises:
        CheckpointError: As `load_pickle_safely`, or the entries are missing or of another kind.
    """
    content = load_pickle_safely(path)
    with _refusal(path):
        if not isinstance(content, dict) or not {"state_dict", "args"} <= content.keys():
            keys = list(map(_name, content)) if isinstance(content, dict) else describe(content)
            msg = f"expected a dict with 'state_dict' and 'args', found {keys}"
            raise ValueError(msg)
        state_dict = content["state_dict"]
        if not isinstance(state_dict, dict):
            msg = f"expected a dict as 'state_dict', found {describe(state_dict)}"
            raise TypeError(msg)
        for key, value in state_dict.items():
            if not isinstance(key, str) or not isinstance(value, torch.Tensor):
                found = f"{_name(key)}: {describe(value)}"
                msg = f"expected names and tensors in 'state_dict', found {found}"
                raise TypeError(msg)
        settings = _plain_settings(content["args"])
        if not isinstance(settings, dict):
            msg = f"expected named settings as 'args', found {describe(content['args'])}"
            raise TypeError(msg)
        epoch, steps = (
            value if type(value := content.get(key)) is int else None for key in ("epoch", "steps")
        )
        return OfficialCheckpoint(state_dict, settings, epoch, steps)


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    # An untrusted file can make any layer below fail in any way; callers handle one error.
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        msg = (
            f"{path}: cannot be read as a checkpoint: {str(error)[:500] or 'no detail'} "
            f"({type(error).__name__}). Expected a file that torch.save wrote in its zip format. "
            "Check the path, or fetch the file again and compare its sha256 with the published one."
        )
        raise CheckpointError(msg) from error


def _read_archive(archive: zipfile.ZipFile, file_bytes: int) -> object:
    # torch.save stores records uncompressed, so that honest records never add up to more than
    # the file; compressed or overlapping ones could unpack a small file to any size.
    total = sum(record.file_size for record in archive.infolist())
    if total > file_bytes:
        msg = f"its records unpack to {total} bytes, expected at most the file's {file_bytes}"
        raise ValueError(msg)
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        msg = f"expected one record <folder>/data.pkl in the zip file, found {len(pickles)}"
        raise ValueError(msg)
    folder = pickles[0].removesuffix("data.pkl")
    order_name = folder + "byteorder"
    if order_name in names and (order := archive.read(order_name)) != b"little":
        msg = f"its byte order is {order[:16]!r}, expected b'little'"
        raise ValueError(msg)
    if (size := archive.getinfo(pickles[0]).file_size) > _MAX_PICKLE_BYTES:
        msg = f"its pickle has {size} bytes, expected at most {_MAX_PICKLE_BYTES}"
        raise ValueError(msg)
    # Tied weights share a storage; endless views of one would fill the memory when copied.
    machine = PickleMachine(
        lambda key: archive.read(f"{folder}data/{key}"), max_tensor_bytes=_MAX_SHARING * total
    )
    return machine.run(archive.read(pickles[0]))


def _name(key: object) -> str:
    return key if isinstance(key, str) else str(key) if isinstance(key, int) else describe(key)


def _plain_settings(settings: object) -> object:
    visited = 0

    def plain(node: object) -> object:
        nonlocal visited
        visited += 1
        if visited > _MAX_SETTINGS:
            msg = f"its settings have over {_MAX_SETTINGS} values, or contain themselves"
            raise ValueError(msg)
        match node:
            case None | str() | int() | float():
                return node
            case dict():
                return {_name(key): plain(value) for key, value in node.items()}
            case list() | tuple():
                return [plain(value) for value in node]
            case Placeholder(module=module, state=dict() as state):
                # OmegaConf 1.4 keeps a value under the plain name, OmegaConf 2 under the other.
                if module.partition(".")[0] == "omegaconf":
                    for key in ("content", "_content", "val", "_val"):
                        if key in state:
                            return plain(state[key])
                return plain(state)
            case Placeholder(entries=entries) if entries:
                return plain(entries)
        return describe(node)

    return plain(settings)
