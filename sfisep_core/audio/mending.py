"""Correct files of libsndfile: reproducible bytes, and valid files without samples."""

from __future__ import annotations

import errno
import io
import zlib

# Any fixed number; libsndfile uses a random one.
_OGG_SERIAL = 1
_OGG_HEADER = 27
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def empty_flac(sample_rate: int, channels: int, bits: int) -> bytes:
    """Return a FLAC file without samples, for which libsndfile writes an empty file.

    Args:
        sample_rate: In Hz.
        channels: 1 to 8.
        bits: 16 or 24.

    Returns:
        The whole file. Source: RFC 9639, section 8.2.
    """
    # "fLaC" and the STREAMINFO block: block sizes, frame sizes (unknown), 20 bits of rate, 3 of
    # channels - 1, 5 of bits - 1, 36 of total samples, MD5 (unknown).
    packed = sample_rate << 44 | (channels - 1) << 41 | (bits - 1) << 36
    block_sizes = (4096).to_bytes(2, "big") * 2
    info = block_sizes + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info


def clear_peak_time(raw: io.FileIO) -> None:
    """Clear the time stamp in the PEAK chunk of a floating-point WAV.

    Args:
        raw: The complete file, open for reading and writing.
    """
    raw.seek(0)
    header = raw.read(256)
    peak = header[: header.find(b"data")].find(b"PEAK")
    if peak > 0:
        raw.seek(peak + 12)
        raw.write(bytes(4))


def set_channel_mask(raw: io.FileIO, mask: int) -> None:
    """Write the loudspeaker positions into a WAVE_FORMAT_EXTENSIBLE header.

    Args:
        raw: The complete file, WAV or RF64, open for reading and writing.
        mask: WAV channel mask.
    """
    raw.seek(0)
    start = raw.read(256).find(b"fmt ")
    if start > 0:
        raw.seek(start + 28)
        raw.write(mask.to_bytes(4, "little"))


def mend_ogg(raw: io.FileIO, surplus: int) -> None:
    """Replace the random serial number of an Ogg stream, and shorten the stream.

    Args:
        raw: The complete file, open for reading and writing.
        surplus: Units of the granule position to remove from the end, 0 or more.

    Raises:
        OSError: The file is incomplete.

    Source: RFC 3533, section 6.
    """
    start, end = 0, raw.seek(0, io.SEEK_END)
    while start < end:
        raw.seek(start)
        page = bytearray(raw.read(_OGG_HEADER + 255))
        if len(page) < _OGG_HEADER or page[:4] != b"OggS":
            raise _incomplete()
        header_length = _OGG_HEADER + page[26]
        length = header_length + sum(page[_OGG_HEADER:header_length])
        page[:] = page[:length] + raw.read(max(length - len(page), 0))
        if len(page) < length:
            raise _incomplete()
        if start + length == end:
            granule = int.from_bytes(page[6:14], "little") - surplus
            page[6:14] = granule.to_bytes(8, "little")
        page[14:18] = _OGG_SERIAL.to_bytes(4, "little")
        page[22:26] = bytes(4)
        page[22:26] = ogg_checksum(page)
        raw.seek(start)
        raw.write(page)
        start += length


def mend_mp3(raw: io.FileIO, surplus: int) -> None:
    """Check that an MP3 is complete, and shorten the play length in its LAME tag.

    Args:
        raw: The file, open for reading and writing.
        surplus: Samples to remove from the end, 0 or more.

    Raises:
        OSError: The file is incomplete.

    Source: Mp3 info tag rev 1 specifications (Taylor), http://gabriel.mp3-tech.org/mp3infotag.html
    """
    end = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    head = bytearray(raw.read(512))
    tag = head.find(b"LAME")
    # 21: 12 bits each of samples added before and after; 28: length in bytes; 34: CRC of all this.
    if tag < 0 or int.from_bytes(head[tag + 28 : tag + 32], "big") != end:
        raise _incomplete()
    padding = int.from_bytes(head[tag + 21 : tag + 24], "big") + surplus
    head[tag + 21 : tag + 24] = padding.to_bytes(3, "big")
    head[tag + 34 : tag + 36] = _crc16(head[: tag + 34])
    raw.seek(0)
    raw.write(head)


def ogg_checksum(page: bytes | bytearray) -> bytes:
    """Return the checksum of an Ogg page.

    Args:
        page: The whole page, with zeros in its checksum field.

    Returns:
        4 bytes in the byte order of the page.
    """
    # Ogg's CRC is that of zlib with the bits of each byte reversed, and without the inversions at
    # the start and the end, which the start value and the final xor undo.
    reverse = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return reverse.to_bytes(4, "big").translate(_REVERSED_BITS)


def _crc16(content: bytearray) -> bytes:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "big")


def _incomplete() -> OSError:
    return OSError(errno.ENOSPC, "a file cut short of its end")
