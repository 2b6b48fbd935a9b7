"""Compare the length in the header of a PCM container with the actual size of the file."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

# Programs that write WAV to a pipe announce the largest length they can.
_STREAMED_WAV_BYTES = 2**31 - 2**16
_UNKNOWN_32 = 2**32 - 1
_W64_GUID_BYTES = 16
_W64_CHUNK_HEADER = _W64_GUID_BYTES + 8
# Files may have some bytes of program-specific data after the samples.
SHORT_TAIL = 4096
_MAX_CHUNKS = 10_000
# Maximum number of concatenated recordings in one file that are examined.
_MAX_RECORDINGS = 1_000
_FIRST_BYTES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b"riff", b".snd", b"dns.")


@dataclass(frozen=True)
class SampleData:
    """Position of the samples of a file, from its chunk headers.

    Attributes:
        start: First byte of the samples.
        announced: Bytes of samples according to the header; None if it does not state them.
        present: How many of these bytes the file contains.
        behind: Bytes after these samples that are further samples, another recording or unknown
            content; 0 for other chunks and for a few bytes.
        format_tag: Format tag of a WAV; 0 for other containers.
        block_bytes: Bytes of one sample in all channels of a WAV; 0 for other containers.
        channel_mask: Loudspeaker positions as a WAV channel mask; 0 = unspecified.
        big_endian: Whether a WAV is big-endian (RIFX).
        more_chunks: (first byte, length) of further data chunks in the same WAV.
        file_start: First byte of the recording; above 0 if it follows another one.
        next_start: First byte of the next recording; None if there is none.
        following: The recordings after the first one of a file, in order.
    """

    start: int
    announced: int | None
    present: int
    behind: int
    format_tag: int = 0
    block_bytes: int = 0
    channel_mask: int = 0
    big_endian: bool = False
    more_chunks: tuple[tuple[int, int], ...] = ()
    file_start: int = 0
    next_start: int | None = None
    following: tuple[SampleData, ...] = ()

    def is_cut(self) -> bool:
        """Tell whether the file is shorter than its header states."""
        return self.announced is not None and self.announced > self.present

    def end_of_first(self) -> int | None:
        """Return the byte after the first data chunk if further ones follow, else None."""
        if self.more_chunks and self.announced is not None:
            return self.start + self.announced
        return self.next_start

    def real_bytes(self) -> int:
        """Return the bytes of samples of a WAV whose header does not state them.

        Returns:
            Bytes, if the length was never written or has wrapped around at 32 bits; 0 if the header
            is plausible.
        """
        if not self.format_tag or self.announced is None:
            return 0
        if self.announced == 0:
            return self.behind
        turns = (self.behind + SHORT_TAIL) >> 32
        tail = self.behind - (turns << 32)
        return self.announced + min(turns << 32, self.behind) if turns and tail <= SHORT_TAIL else 0


def measure(raw: io.FileIO) -> SampleData | None:
    """Read the chunk headers of a file.

    Args:
        raw: The file, open; its position changes.

    Returns:
        The sizes; None for files that are not WAV, RF64, W64, AIFF, AU or CAF, and for those
        without samples.
    """
    size = os.fstat(raw.fileno()).st_size
    first = _measure_from(raw, 0, size)
    if first is None:
        return None
    following: list[SampleData] = []
    last: SampleData | None = first
    while last is not None and last.next_start is not None and len(following) < _MAX_RECORDINGS:
        last = _measure_from(raw, last.next_start, size)
        following += [] if last is None else [last]
    return replace(first, following=tuple(following))


def _measure_from(raw: io.FileIO, file_start: int, size: int) -> SampleData | None:
    head = _read(raw, file_start, 40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        data = _measure_wav(raw, file_start, size, ">" if head[:4] == b"RIFX" else "<")
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        data = _measure_aiff(raw, file_start, size)
    elif head[:4] == b"caff":
        data = _measure_caf(raw, file_start, size)
    elif head[:4] == b"riff" and head[24:28] == b"wave":
        data = _measure_w64(raw, file_start, size)
    elif head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        start, length = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
        announced = None if length == _UNKNOWN_32 else length
        data = _sample_data(raw, file_start + start, announced, size)
    else:
        return None
    return None if data is None else replace(data, file_start=file_start)


def _measure_wav(raw: io.FileIO, file_start: int, size: int, order: str) -> SampleData | None:
    position, long_length, tag, block, mask = file_start + 12, None, 0, 0, 0
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 8)
        if len(header) < 8:
            return None
        name, length = header[:4], struct.unpack(f"{order}I", header[4:])[0]
        body = position + 8
        if name == b"ds64":
            long_length = struct.unpack("<Q", _read(raw, body + 8, 8).ljust(8, b"\0"))[0]
        elif name == b"fmt ":
            content = _read(raw, body, min(length, 40)).ljust(40, b"\0")
            tag, block = struct.unpack(f"{order}H10xH", content[:14])
            if tag == 0xFFFE:  # WAVE_FORMAT_EXTENSIBLE
                mask, tag = struct.unpack(f"{order}IH", content[20:26])
        elif name == b"data":
            announced = length
            if length == _UNKNOWN_32 and long_length is not None:
                announced = long_length
            elif length >= _STREAMED_WAV_BYTES and body + length > size:
                announced = None
            if announced is None:
                return SampleData(body, None, size - body, 0, tag, block, mask)
            end = body + announced
            # Not every program writes the padding byte at the end of a file.
            padded = end if _read(raw, end, 4) in _FIRST_BYTES else end + announced % 2
            more, next_start, rest = _look_behind_wav(raw, padded, size, order)
            present = max(min(announced, size - body), 0)
            return SampleData(
                body,
                announced,
                present,
                sum(length for _, length in more) + rest,
                format_tag=tag,
                block_bytes=block,
                channel_mask=mask,
                big_endian=order == ">",
                more_chunks=more,
                next_start=next_start,
            )
        position = body + length + length % 2
    return None


def _look_behind_wav(
    raw: io.FileIO, position: int, size: int, order: str
) -> tuple[tuple[tuple[int, int], ...], int | None, int]:
    """Return further data chunks, the start of a next recording, and the bytes of neither."""
    chunks: list[tuple[int, int]] = []
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 8)
        if len(header) < 8:
            break
        name, length = header[:4], struct.unpack(f"{order}I", header[4:])[0]
        behind = size - position
        if name in _FIRST_BYTES:
            return tuple(chunks), position, behind
        if not (name.isascii() and name.decode().isprintable()):
            return tuple(chunks), None, behind if behind > SHORT_TAIL else 0
        if name == b"data":
            chunks.append((position + 8, min(length, behind - 8)))
        position += 8 + length + length % 2
    return tuple(chunks), None, 0


def _measure_aiff(raw: io.FileIO, file_start: int, size: int) -> SampleData | None:
    def behind(position: int) -> int:
        length = _read(raw, position + 4, 4)
        return position + 8 + _number(length, ">") + _number(length, ">") % 2

    position = file_start + 12
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 16)
        if len(header) < 16:
            return None
        length, offset = struct.unpack(">II", header[4:12])
        if header[:4] == b"SSND":
            # The chunk starts with an offset and a block size of 4 bytes each.
            start = position + 16 + offset
            return _sample_data(
                raw, start, max(length - 8 - offset, 0), size, behind(position), behind
            )
        position = behind(position)
    return None


def _measure_caf(raw: io.FileIO, file_start: int, size: int) -> SampleData | None:
    def behind(position: int) -> int:
        length = _number(_read(raw, position + 4, 8), ">")
        return position + 12 + length if length < 1 << 63 else size  # -1: up to the end of the file

    position = file_start + 8
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 12)
        if len(header) < 12:
            return None
        if header[:4] == b"data":
            # The chunk starts with a counter of 4 bytes.
            length = struct.unpack(">q", header[4:])[0]
            announced = None if length < 0 else max(length - 4, 0)
            return _sample_data(raw, position + 16, announced, size, behind(position), behind)
        position = behind(position)
    return None


def _measure_w64(raw: io.FileIO, file_start: int, size: int) -> SampleData | None:
    def behind(position: int) -> int:
        # The length includes the header, and chunks start at multiples of 8 bytes.
        length = max(_number(_read(raw, position + _W64_GUID_BYTES, 8), "<"), _W64_CHUNK_HEADER)
        return position + (length + 7) // 8 * 8

    position = file_start + 40
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, _W64_CHUNK_HEADER)
        if len(header) < _W64_CHUNK_HEADER:
            return None
        if header[:4] == b"data":
            length = max(_number(header[_W64_GUID_BYTES:], "<") - _W64_CHUNK_HEADER, 0)
            start = position + _W64_CHUNK_HEADER
            return _sample_data(raw, start, length, size, behind(position), behind)
        position = behind(position)
    return None


def _sample_data(
    raw: io.FileIO,
    start: int,
    announced: int | None,
    size: int,
    end: int | None = None,
    next_chunk: Callable[[int], int] | None = None,
) -> SampleData:
    """Compare the stated with the actual length, and examine what follows the samples.

    Args:
        raw: The file.
        start: First byte of the samples.
        announced: Bytes of samples according to the header; None = unknown.
        size: Size of the file in bytes.
        end: Where the next chunk should start; None = after the samples.
        next_chunk: Function from the first byte of a chunk to the first byte after it; None = there
            are no chunks.
    """
    held = max(size - start, 0)
    if announced is None:
        return SampleData(start, None, held, 0)
    data = SampleData(start, announced, min(announced, held), 0)
    # Not every program writes the padding byte at the end of a file.
    padded = end is not None and _read(raw, start + announced, 4) not in _FIRST_BYTES
    position = end if end is not None and padded else start + announced
    for _ in range(_MAX_CHUNKS):
        name = _read(raw, position, 4)
        if name in _FIRST_BYTES:
            return replace(data, behind=size - position, next_start=position)
        is_chunk = len(name) == 4 and name.replace(b" ", b"").isalnum()
        if next_chunk is None or not is_chunk:
            break
        position = next_chunk(position)
    unknown = size - position
    return replace(data, behind=unknown if unknown > SHORT_TAIL else 0)


def _number(content: bytes, order: str) -> int:
    return int.from_bytes(content, "big" if order == ">" else "little")


def _read(raw: io.FileIO, position: int, count: int) -> bytes:
    # A header may contain any number, and seeking beyond the largest possible file fails.
    if position >= os.fstat(raw.fileno()).st_size:
        return b""
    raw.seek(position)
    return raw.read(count) or b""
