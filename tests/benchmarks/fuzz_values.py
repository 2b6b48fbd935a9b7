"""Change values in JSON, TOML, safetensors and checkpoint files at random, to hostile ones too."""

import json
import math
import struct
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Stands for what no JSON writer writes.
DEEP = "nested 100,000 deep"
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**12, 10**400, -0.5, 1e308, math.nan, math.inf),
    *("", "x" * 10**6, "\x1b[31m\x07", "\0", "\ud800", "../../x", "/dev/zero", "=1+1", "nan"),
    *([], {}, [[]], {"": {}}, [1] * 10**5, DEEP),
)


def change_tree(tree: Any, rng: np.random.Generator) -> Any:
    """Change one to three values of a tree of dictionaries and lists."""
    root = {"": deepcopy(tree)}
    for _ in range(rng.integers(1, 4)):
        places = list(_places(root))
        holder, key = places[int(rng.integers(len(places)))]
        kind = int(rng.integers(6))
        if kind == 0 and holder is not root:
            del holder[key]
        elif kind == 1:
            holder[key] = [holder[key]]
        elif kind == 2:
            other, of_other = places[int(rng.integers(len(places)))]
            holder[key] = deepcopy(other[of_other])
        elif kind == 3 and isinstance(holder[key], dict):
            holder[key][str(HOSTILE[int(rng.integers(len(HOSTILE)))])[:200]] = 1
        else:
            holder[key] = deepcopy(HOSTILE[int(rng.integers(len(HOSTILE)))])
    return root[""]


def _places(node: Any) -> Any:
    keys = node.keys() if isinstance(node, dict) else range(min(len(node), 50))
    for key in list(keys):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def change_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of a JSON file."""
    return _dumps(change_tree(json.loads(data), rng))


def _dumps(tree: Any) -> bytes:
    text = json.dumps(tree).replace(json.dumps(DEEP), "[" * 10**5 + "]" * 10**5)
    return text.encode()


def change_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of a journal: one JSON value for each line."""
    lines = data.splitlines()
    number = int(rng.integers(len(lines)))
    lines[number] = change_json(lines[number], rng)
    return b"\n".join(lines) + b"\n"


def change_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of the header of a safetensors file, the model's description included."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]
    if rng.integers(2):
        (key,) = metadata
        metadata[key] = change_json(metadata[key].encode(), rng).decode()
    else:
        header = change_tree(header, rng)
    text = _dumps(header)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def change_checkpoint(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of a training checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint.pt")
        path.write_bytes(data)
        state = change_tree(torch.load(path, weights_only=True), rng)
        torch.save(state, path)
        return path.read_bytes()


def change_toml(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of a TOML file."""
    values = [_dumps(value).decode() for value in HOSTILE if value is not None and value != {}]
    values += ["nan", "-inf", "{a = 1}", "1979-05-27", "0x" + "f" * 500, "'" + "y" * 5000 + "'"]
    lines = data.decode().splitlines()
    for _ in range(rng.integers(1, 4)):
        number = int(rng.integers(len(lines)))
        key, equals, _ = lines[number].partition(" = ")
        if equals and rng.integers(8):
            lines[number] = f"{key} = {values[int(rng.integers(len(values)))]}"
        else:
            lines[number] = lines[int(rng.integers(len(lines)))]
    return "\n".join(lines).encode()
