"""Check whether compressed files are complete, with the means of their formats."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

from sfisep_core.audio.container_sizes import SHORT_TAIL
from sfisep_core.audio.mending import ogg_checksum

_TAIL_BYTES = 2 * 65_307  # two Ogg pages of the largest size
_OGG_HEADER = 27
_OGG_END = 4
_ID3_HEADER = 10
_MP3_HEAD = 512
_TINY_MP3_BYTES = 8192
_BUFFER_BYTES = 1 << 18
_FLAC_MARK = b"fLaC"
# libsndfile may have read up to this much more than it has decoded.
_READ_AHEAD_BYTES = 1 << 16
# The largest possible packet.
_MP3_PACKET = 2880


def is_cut(raw: io.FileIO, container: str) -> bool:
    """Tell whether the end of a file is missing.

    Args:
        raw: The file, open; its position changes.
        container: ffmpeg's name of the format.

    Returns:
        True for an Ogg file whose last page is incomplete or not marked as the last, and for an MP3
        shorter than stated in its Xing tag. False for other formats, whose ends contain no such
        mark.
    """
    if container == "ogg":
        return _ogg_is_cut(raw)
    return container == "mp3" and _mp3_is_cut(raw)


def is_whole_vorbis(raw: io.FileIO) -> bool:
    """Tell whether a file is one complete Ogg Vorbis stream.

    Args:
        raw: The file, open; its position changes.

    Returns:
        True if all pages are present, in order and with correct checksums, and nothing else is.

    Source: RFC 3533, section 6.
    """
    size = os.fstat(raw.fileno()).st_size
    raw.seek(0)
    file = io.BufferedReader(raw, _BUFFER_BYTES)
    try:
        position, number, serial, ended = 0, 0, b"", False
        while position < size:
            page = bytearray(file.read(_OGG_HEADER))
            if len(page) < _OGG_HEADER or page[:4] != b"OggS" or ended:
                return False
            page += file.read(page[26])
            page += file.read(sum(page[_OGG_HEADER:]))
            if number == 0:
                serial = bytes(page[14:18])
                if b"\x01vorbis" not in page[:64]:
                    return False
            checksum = bytes(page[22:26])
            page[22:26] = bytes(4)
            numbered = int.from_bytes(page[18:22], "little") == number
            if not numbered or page[14:18] != serial or ogg_checksum(page) != checksum:
                return False
            ended = bool(page[5] & _OGG_END)
            position += len(page)
            number += 1
        return ended
    finally:
        file.detach()  # otherwise it would close the file


def mp3_bytes_are_counted(raw: io.FileIO) -> bool:
    """Tell whether an MP3 has exactly the size stated in its Xing tag.

    Args:
        raw: The file, open; its position changes.

    Returns:
        False also if there is no tag or it states no size.
    """
    tag = _xing_tag(raw)
    return tag is not None and tag.present == tag.announced


def tiny_mp3_frames(raw: io.FileIO) -> int | None:
    """Return the length stated in the LAME tag of an MP3, if it is shorter than one packet.

    ffmpeg does not remove all of the encoder's padding from such files.

    Args:
        raw: The file, open; its position changes.

    Returns:
        Length in samples; None for longer files, and if the tag does not match the file.
    """
    tag = _xing_tag(raw)
    if tag is None or tag.present > _TINY_MP3_BYTES or tag.present != tag.announced:
        return None
    lame = tag.head.find(b"LAME")
    if lame < 0 or len(tag.head) < lame + 24:
        return None
    # Two numbers of 12 bits: the samples of padding before and after.
    added = int.from_bytes(tag.head[lame + 21 : lame + 24], "big")
    # This bit is set for MPEG-1, whose packets are twice as long.
    samples = 1152 if tag.head[1] & 0x08 else 576
    frames = tag.packets * samples - (added >> 12) - (added & 0xFFF)
    return frames if 0 <= frames < samples else None


def flac_behind(raw: io.FileIO) -> bool:
    """Tell whether more FLAC data may follow after libsndfile has reached its end of stream.

    Args:
        raw: The file, at the position where libsndfile left it.

    Returns:
        True if another file starts there, or if more than a few bytes follow.
    """
    position = raw.tell()
    if os.fstat(raw.fileno()).st_size - position > SHORT_TAIL:
        return True
    raw.seek(max(position - _READ_AHEAD_BYTES, len(_FLAC_MARK)))
    return _FLAC_MARK in raw.read()


@dataclass(frozen=True)
class _XingTag:
    """The Xing tag in an MP3's first packet: its head, and lengths in packets and bytes."""

    head: bytes
    packets: int
    announced: int
    present: int


def id3_end(raw: io.FileIO) -> int:
    """Return the position behind the ID3v2 tags that a file begins with; 0 if there are none.

    Args:
        raw: The file, open; its position changes.

    Source: ID3 tag version 2.4.0, main structure, section 3.
    """
    end = 0
    while True:
        raw.seek(end)
        head = raw.read(_ID3_HEADER)
        if head[:3] != b"ID3" or len(head) < _ID3_HEADER:
            return end
        # A number in four bytes of seven bits each.
        size = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
        footer = _ID3_HEADER if head[5] & 0x10 else 0
        end += _ID3_HEADER + size + footer


def _xing_tag(raw: io.FileIO) -> _XingTag | None:
    start = id3_end(raw)
    raw.seek(start)
    head = raw.read(_MP3_HEAD)
    place = max(head.find(b"Xing"), head.find(b"Info"))
    if place < 0 or len(head) < place + 16 or head[place + 7] & 3 != 3:
        return None
    packets, announced = (
        int.from_bytes(head[place + 8 + i : place + 12 + i], "big") for i in (0, 4)
    )
    return _XingTag(head, packets, announced, os.fstat(raw.fileno()).st_size - start)


def _ogg_is_cut(raw: io.FileIO) -> bool:
    size = os.fstat(raw.fileno()).st_size
    raw.seek(max(size - _TAIL_BYTES, 0))
    tail = raw.read()
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + _OGG_HEADER:
        return True
    segments = tail[place + 26]
    header = tail[place : place + _OGG_HEADER + segments]
    length = _OGG_HEADER + segments + sum(header[_OGG_HEADER:])
    return not header[5] & _OGG_END or len(tail) < place + length


def _mp3_is_cut(raw: io.FileIO) -> bool:
    tag = _xing_tag(raw)
    return tag is not None and tag.present < tag.announced - _MP3_PACKET
