"""Write TensorFlow checkpoints, to test their reader: sums bit by bit, keys without prefixes."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INDEX, DATA = "model.index", "model.data-00000-of-00001"
MAGIC = 0xDB4775248B80FB57

Entries = Sequence[tuple[bytes, bytes]]


def masked_sum(data: bytes) -> int:
    """Masked CRC-32C, by the definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    head = bytearray()
    while number > 0x7F:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*head, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def description(
    shape: Sequence[int],
    offset: int,
    size: int,
    checksum: int,
    *,
    dtype: int = 1,
    more: bytes = b"",
) -> bytes:
    """Describe a tensor as the index does."""
    axes = b"".join(field(2, field(1, axis)) for axis in shape)
    place = field(4, offset) + field(5, size) + varint(6 << 3 | 5) + checksum.to_bytes(4, "little")
    return field(1, dtype) + field(2, axes) + place + more


def block_of(entries: Entries) -> bytes:
    """Write entries without shared beginnings of keys, and one restart."""
    content = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries
    )
    return content + bytes(4) + (1).to_bytes(4, "little")


def table_of(blocks: Sequence[bytes], *, compression: int = 0) -> bytes:
    """Write data blocks, an empty block of other tables, the index of blocks, and the footer."""
    table, places = b"", []

    def add(block: bytes) -> None:
        nonlocal table
        places.append(varint(len(table)) + varint(len(block)))
        stored = block + bytes([compression])
        table += stored + masked_sum(stored).to_bytes(4, "little")

    for block in blocks:
        add(block)
    index = [(bytes([0xFF, number]), place) for number, place in enumerate(places)]
    add(block_of([]))
    add(block_of(index))
    footer = (places[-2] + places[-1]).ljust(40, b"\0")
    return table + footer + MAGIC.to_bytes(8, "little")


HEADER = (b"", field(1, 1) + field(3, field(1, 1)))


def write_checkpoint(
    tensors: Mapping[str, NDArray[np.generic]], *, tensors_a_block: int = 3
) -> tuple[bytes, bytes]:
    """Give the contents of the index and of the data file."""
    data, entries = b"", [HEADER]
    for name in sorted(tensors):
        stored = tensors[name].tobytes()
        dtype = {"f": 1, "i": 9}[tensors[name].dtype.kind]
        about = description(
            tensors[name].shape, len(data), len(stored), masked_sum(stored), dtype=dtype
        )
        entries.append((name.encode(), about))
        data += stored
    step = tensors_a_block
    blocks = [block_of(entries[i : i + step]) for i in range(0, len(entries), step)]
    return table_of(blocks), data


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Pack files as the published archives are."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def zip_of(path: Path, files: Mapping[str, bytes]) -> Path:
    """Pack files as a wheel does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
