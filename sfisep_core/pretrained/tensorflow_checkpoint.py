"""Read TensorFlow checkpoints as data, without TensorFlow.

A checkpoint is two files. PREFIX.data-00000-of-00001 contains the tensors, little-endian, one after
the other. PREFIX.index is a table in the format of LevelDB: blocks of sorted keys, whose values are
small protocol buffers with dtype, shape, offset and checksum of each tensor. The files are
untrusted, so every length is checked before memory is allocated, and every checksum is verified.

Source: tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/lib/io/format.h (the
formats; this reader is written from the description).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfisep_core.pretrained.crc32c import masked_crc32c

Tensors = dict[str, NDArray[np.generic]]

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression and checksum of a block
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}
_LARGEST_KEY = 2**12
_MOST_TENSORS = 10_000
_MOST_AXES = 8


class DamagedCheckpointError(ValueError):
    """The content is not a valid or supported checkpoint."""


@dataclass(frozen=True)
class TensorEntry:
    """Location of a tensor in the data file.

    Attributes:
        dtype: Type of its values.
        shape: Shape of the tensor.
        offset: First byte.
        size: Number of bytes.
        checksum: Masked CRC-32C of these bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def read_tensors(index: bytes, data: bytes) -> Tensors:
    """Read all tensors of a checkpoint.

    Args:
        index: Content of PREFIX.index.
        data: Content of PREFIX.data-00000-of-00001.

    Returns:
        Arrays by name, of 32-bit floats or 32- or 64-bit integers, which share the memory of
        `data`.

    Raises:
        DamagedCheckpointError: A checksum differs, an offset is out of bounds, tensors overlap or
            do not cover the data, or there are several shards or unknown dtypes.
    """
    entries = read_index(index)
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].size)):
        if entry.offset != end or entry.size > len(data) - end:
            msg = (
                f"tensor {name} at bytes {entry.offset} to {entry.offset + entry.size} of the data "
                f"file: expected it to begin at {end} and to end at {len(data)} or before"
            )
            raise DamagedCheckpointError(msg)
        end += entry.size
    if end != len(data):
        msg = f"the tensors fill {end} bytes, the data file has {len(data)}"
        raise DamagedCheckpointError(msg)
    view, tensors = memoryview(data), {}
    for name, entry in entries.items():
        stored = view[entry.offset : entry.offset + entry.size]
        if masked_crc32c(stored) != entry.checksum:
            msg = f"the checksum of tensor {name} differs: the data file is damaged"
            raise DamagedCheckpointError(msg)
        tensors[name] = np.frombuffer(stored, dtype=entry.dtype).reshape(entry.shape)
    return tensors


def read_index(index: bytes) -> dict[str, TensorEntry]:
    """Read the locations of the tensors.

    Args:
        index: Content of PREFIX.index.

    Returns:
        Entries by name.

    Raises:
        DamagedCheckpointError: As `read_tensors`.
    """
    entries: dict[str, TensorEntry] = {}
    has_header = False
    for key, value in _table_entries(index):
        fields = _message(value)
        if key == b"":
            has_header = True
            shards = _number(fields, 1)
            if shards != 1 or _number(fields, 2):
                msg = f"expected one little-endian data file, found {shards} shards"
                raise DamagedCheckpointError(msg)
            continue
        try:
            name = key.decode("utf-8")
        except UnicodeDecodeError:
            msg = f"expected names of tensors in UTF-8, found {key[:32]!r}"
            raise DamagedCheckpointError(msg) from None
        entries[name] = _tensor_entry(name, fields)
        if len(entries) > _MOST_TENSORS:
            msg = f"expected at most {_MOST_TENSORS} tensors"
            raise DamagedCheckpointError(msg)
    if not has_header:
        msg = "the header of the index is missing"
        raise DamagedCheckpointError(msg)
    return entries


_Fields = dict[int, list[int | bytes]]


def _tensor_entry(name: str, fields: _Fields) -> TensorEntry:
    kind = _number(fields, 1)
    if kind not in _DTYPES or 7 in fields or _number(fields, 3) != 0:
        msg = f"tensor {name}: expected whole 32-bit floats or integers, found dtype number {kind}"
        raise DamagedCheckpointError(msg)
    axes = _message(_bytes(fields, 2))
    if set(axes) - {2} or len(axes.get(2, [])) > _MOST_AXES:
        msg = f"tensor {name}: expected a known shape of at most {_MOST_AXES} axes"
        raise DamagedCheckpointError(msg)
    sizes = [_message(axis) for axis in axes.get(2, []) if isinstance(axis, bytes)]
    shape = tuple(_number(axis, 1) for axis in sizes)
    dtype, size = _DTYPES[kind], _number(fields, 5)
    if len(sizes) != len(axes.get(2, [])) or size != math.prod(shape) * dtype.itemsize:
        msg = f"tensor {name}: {size} bytes do not hold {list(shape)} values of {dtype.itemsize}"
        raise DamagedCheckpointError(msg)
    return TensorEntry(dtype, shape, _number(fields, 4), size, _number(fields, 6))


def _table_entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a table, in order."""
    if len(table) < _FOOTER_BYTES or table[-8:] != _MAGIC.to_bytes(8, "little"):
        msg = "expected the index of a TensorFlow checkpoint, which ends in the number of a table"
        raise DamagedCheckpointError(msg)
    end = len(table) - _FOOTER_BYTES
    footer = table[end:-8]
    places, position = [], 0
    for _ in range(4):
        number, position = _varint(footer, position)
        places.append(number)
    if any(footer[position:]):
        msg = "the footer of the index is damaged"
        raise DamagedCheckpointError(msg)
    meta, index = (places[0], places[1]), (places[2], places[3])
    blocks = []
    for _, value in _block_entries(_block(table, index, end)):
        offset, position = _varint(value, 0)
        size, position = _varint(value, position)
        blocks.append((offset, size))
    # The file consists of data blocks, the metaindex block and the index block, in this order.
    start = 0
    for offset, size in (*blocks, meta, index):
        if offset != start:
            msg = f"a block of the index begins at byte {offset}, expected {start}"
            raise DamagedCheckpointError(msg)
        start = offset + size + _TRAILER_BYTES
    if start != end:
        msg = f"the blocks of the index end at byte {start}, expected {end}"
        raise DamagedCheckpointError(msg)
    if any(True for _ in _block_entries(_block(table, meta, end))):
        msg = "expected no other tables in the index"
        raise DamagedCheckpointError(msg)
    previous: bytes | None = None
    for place in blocks:
        for key, value in _block_entries(_block(table, place, end)):
            if previous is not None and key <= previous:
                msg = f"the names in the index are not in order at {key[:32]!r}"
                raise DamagedCheckpointError(msg)
            previous = key
            yield key, value


def _block(table: bytes, place: tuple[int, int], end: int) -> bytes:
    """Read a block and verify its checksum; return its content."""
    offset, size = place
    if offset + size + _TRAILER_BYTES > end:
        msg = f"a block of the index ends at byte {offset + size}, behind the last, {end}"
        raise DamagedCheckpointError(msg)
    compression = table[offset + size]
    stored = table[offset + size + 1 : offset + size + _TRAILER_BYTES]
    if masked_crc32c(table[offset : offset + size + 1]) != int.from_bytes(stored, "little"):
        msg = f"the checksum of the index at byte {offset} differs"
        raise DamagedCheckpointError(msg)
    if compression != 0:
        msg = f"expected blocks without compression in the index, found number {compression}"
        raise DamagedCheckpointError(msg)
    return table[offset : offset + size]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block; keys are prefix-compressed."""
    if len(block) < 4:
        msg = "a block of the index is too short"
        raise DamagedCheckpointError(msg)
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        msg = f"a block of the index has no room for {restarts} restarts"
        raise DamagedCheckpointError(msg)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or added + length > end - position or shared + added > _LARGEST_KEY:
            msg = "an entry of the index is longer than its block"
            raise DamagedCheckpointError(msg)
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length


def _message(data: bytes) -> _Fields:
    """Read a protocol buffer; return its values by field number."""
    fields: _Fields = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == 0:
            value, position = _varint(data, position)
        elif kind in (1, 2, 5):
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                length, position = _varint(data, position)
            value = data[position : position + length]
            if len(value) < length:
                msg = "a description in the index is cut off"
                raise DamagedCheckpointError(msg)
            position += length
            if kind != 2:
                value = int.from_bytes(value, "little")
        else:
            msg = f"a description in the index has a field of unknown kind {kind}"
            raise DamagedCheckpointError(msg)
        fields.setdefault(number, []).append(value)
    return fields


def _number(fields: _Fields, number: int) -> int:
    """Return a number of a protocol buffer, 0 if it is not stored."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int) or value >= 2**63:
        msg = f"expected a number of 0 or more in field {number} of a description in the index"
        raise DamagedCheckpointError(msg)
    return value


def _bytes(fields: _Fields, number: int) -> bytes:
    value = fields.get(number, [b""])[-1]
    if not isinstance(value, bytes):
        msg = f"expected bytes in field {number} of a description in the index"
        raise DamagedCheckpointError(msg)
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a variable-length integer; return it and the position after it."""
    number = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte == 0 and shift > 0:  # not the shortest encoding of the number
            break
        if byte < 0x80:
            return number, position
    msg = "a number in the index is cut off or too long"
    raise DamagedCheckpointError(msg)
