"""Compare the length that a container of plain samples announces with what the file holds."""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass

# Programs that write WAV to a pipe announce the largest length they can.
_STREAMED_WAV_BYTES = 2**31 - 2**16
_UNKNOWN_32 = 2**32 - 1
_W64_GUID_BYTES = 16
_W64_CHUNK_HEADER = _W64_GUID_BYTES + 8
# Behind the samples of any file there may be some bytes of a program's own.
_SHORT_TAIL = 4096
_MAX_CHUNKS = 10_000
_FLAC_MARK = b"fLaC"
# What libsndfile may have read beyond what it has decoded.
_READ_AHEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class SampleData:
    """Where the samples of a file lie, by its chunks.

    Attributes:
        start: First byte of the samples.
        announced: Bytes of samples that the header announces; None where it does not know.
        present: Those of them that the file holds.
        behind: Bytes of more samples, of another recording or of unknown content behind them;
            0 for other chunks and for a few bytes.
        format_tag: Number of the encoding in a WAV; 0 in others.
        block_bytes: Of a sample in all channels in a WAV; 0 in others.
        channel_mask: Places of the loudspeakers as WAV numbers them; 0 = not told.
    """

    start: int
    announced: int | None
    present: int
    behind: int
    format_tag: int = 0
    block_bytes: int = 0
    channel_mask: int = 0

    def is_cut(self) -> bool:
        """Return whether the file holds less than its header announces."""
        return self.announced is not None and self.announced > self.present

    def real_bytes(self) -> int:
        """Return the bytes of samples of a WAV whose header does not tell them.

        Returns:
            Bytes, where the length was never written or has wrapped around at 32 bits; 0 where the
            header can be believed.
        """
        if not self.format_tag or self.announced is None:
            return 0
        if self.announced == 0:
            return self.behind
        turns = (self.behind + _SHORT_TAIL) >> 32
        tail = self.behind - (turns << 32)
        return (
            self.announced + min(turns << 32, self.behind) if turns and tail <= _SHORT_TAIL else 0
        )


def flac_behind(raw: io.FileIO) -> bool:
    """Tell whether there may be more FLAC behind what libsndfile has read to its end.

    Args:
        raw: The file, at the position where libsndfile left it.

    Returns:
        True if another file begins there, or if there is more than a few bytes.
    """
    position = raw.tell()
    if os.fstat(raw.fileno()).st_size - position > _SHORT_TAIL:
        return True
    raw.seek(max(position - _READ_AHEAD_BYTES, len(_FLAC_MARK)))
    return _FLAC_MARK in raw.read()


def measure(raw: io.FileIO) -> SampleData | None:
    """Walk through the chunks of a file.

    Args:
        raw: The file, open; its position changes.

    Returns:
        What they say; None for files that are not WAV, RF64, W64, AIFF, AU or CAF, and for those
        without samples.
    """
    size = os.fstat(raw.fileno()).st_size
    head = _read(raw, 0, 40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _measure_wav(raw, size, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _measure_aiff(raw, size)
    if head[:4] == b"caff":
        return _measure_caf(raw, size)
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _measure_w64(raw, size)
    if head[:4] in (b".snd", b"dns."):
        start, length = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
        return _sample_data(start, None if length == _UNKNOWN_32 else length, size)
    return None


def _measure_wav(raw: io.FileIO, size: int, order: str) -> SampleData | None:
    position, long_length, tag, block, mask = 12, None, 0, 0, 0
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
            behind = _bytes_behind_wav(raw, end + announced % 2, size, order)
            present = max(min(announced, size - body), 0)
            return SampleData(body, announced, present, behind, tag, block, mask)
        position = body + length + length % 2
    return None


def _bytes_behind_wav(raw: io.FileIO, position: int, size: int, order: str) -> int:
    samples = 0
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 8)
        if len(header) < 8:
            return samples
        name, length = header[:4], struct.unpack(f"{order}I", header[4:])[0]
        if name in (b"RIFF", b"RF64") or not (name.isascii() and name.decode().isprintable()):
            behind = size - position
            return samples + (behind if behind > _SHORT_TAIL else 0)
        if name == b"data":
            samples += min(length, size - position - 8)
        position += 8 + length + length % 2
    return samples


def _measure_aiff(raw: io.FileIO, size: int) -> SampleData | None:
    position = 12
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 16)
        if len(header) < 16:
            return None
        length, offset = struct.unpack(">II", header[4:12])
        if header[:4] == b"SSND":
            # The chunk begins with an offset and a block size of 4 bytes each.
            data = _sample_data(position + 16 + offset, max(length - 8 - offset, 0), size)
            tail = _read(raw, position + 8 + length + length % 2, 4)
            chunk = len(tail) == 4 and tail != b"FORM" and tail.isalnum()
            return _without_tail(data) if chunk else data
        position += 8 + length + length % 2
    return None


def _measure_caf(raw: io.FileIO, size: int) -> SampleData | None:
    position = 8
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, 12)
        if len(header) < 12:
            return None
        length = struct.unpack(">q", header[4:])[0]
        if header[:4] == b"data":
            # The chunk begins with a counter of 4 bytes; -1: up to the end of the file.
            data = _sample_data(position + 16, None if length < 0 else max(length - 4, 0), size)
            tail = _read(raw, position + 12 + length, 4) if length >= 0 else b""
            return _without_tail(data) if tail != b"caff" and tail.isalpha() else data
        if length < 0:
            return None
        position += 12 + length
    return None


def _measure_w64(raw: io.FileIO, size: int) -> SampleData | None:
    position = 40
    for _ in range(_MAX_CHUNKS):
        header = _read(raw, position, _W64_CHUNK_HEADER)
        if len(header) < _W64_CHUNK_HEADER:
            return None
        length = struct.unpack("<Q", header[_W64_GUID_BYTES:])[0]
        if header[:4] == b"data":
            start = position + _W64_CHUNK_HEADER
            data = _sample_data(start, max(length - _W64_CHUNK_HEADER, 0), size)
            tail = _read(raw, position + (length + 7) // 8 * 8, 4)
            return _without_tail(data) if tail != b"riff" and tail.isalpha() else data
        if length < _W64_CHUNK_HEADER:
            return None
        position += (length + 7) // 8 * 8
    return None


def _sample_data(start: int, announced: int | None, size: int) -> SampleData:
    held = max(size - start, 0)
    if announced is None:
        return SampleData(start, None, held, 0)
    behind = held - announced
    return SampleData(start, announced, min(announced, held), behind if behind > _SHORT_TAIL else 0)


def _without_tail(data: SampleData) -> SampleData:
    return SampleData(data.start, data.announced, data.present, 0)


def _read(raw: io.FileIO, position: int, count: int) -> bytes:
    # A header may announce anything, and file systems refuse to seek beyond their largest file.
    if position >= os.fstat(raw.fileno()).st_size:
        return b""
    raw.seek(position)
    return raw.read(count) or b""
