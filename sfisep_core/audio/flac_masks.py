"""Loudspeaker positions of FLAC files: by their number of channels, unless a tag tells others."""

from __future__ import annotations

import io

from sfisep_core.foundation.exit_signals import raise_received

# Channel masks by number of channels. Source: RFC 9639, section 9.1.3.
_MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
# Source: RFC 9639, section 8.6.2.
_TAG = "waveformatextensible_channel_mask"
_MARK = b"fLaC"
# The byte of STREAMINFO with the number of channels, less one, in three of its bits.
_CHANNELS_BYTE = 20


def read_flac_mask(raw: io.FileIO) -> int:
    """Read the loudspeaker positions of a FLAC file.

    Args:
        raw: The file, open; its position changes.

    Returns:
        WAV channel mask; 0 for mono and stereo.
    """
    raw.seek(0)
    head = raw.read(_CHANNELS_BYTE + 1)
    if not head.startswith(_MARK) or len(head) <= _CHANNELS_BYTE:
        return 0
    channels = (head[_CHANNELS_BYTE] >> 1 & 7) + 1
    if channels <= 2:
        return 0
    from mutagen.flac import FLAC  # here, because few files have so many channels

    raw.seek(0)
    try:
        mask = int((FLAC(raw).tags or {}).get(_TAG, ["0"])[0], 16)
    except Exception:  # of damaged tags, of which the reader of tags warns
        raise_received()
        mask = 0
    return mask if mask.bit_count() == channels else _MASKS[channels]


def mask_texts(mask: int, channels: int) -> dict[str, tuple[str, ...]]:
    """Return the tag for loudspeaker positions that the number of channels does not tell.

    Args:
        mask: WAV channel mask; 0 = unspecified.
        channels: Number of channels.
    """
    return {_TAG: (f"0x{mask:X}",)} if mask not in (0, _MASKS.get(channels)) else {}
