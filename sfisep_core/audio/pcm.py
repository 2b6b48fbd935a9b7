"""Raw samples: bytes without a header, little-endian, the channels of a moment side by side."""

from typing import get_args

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.formats import BITS, Encoding
from sfisep_core.errors import ConfigError

Samples = npt.NDArray[np.float32]


def check_encoding(encoding: str) -> None:
    """Check the name of an encoding.

    Raises:
        ConfigError: It is unknown.
    """
    if encoding not in get_args(Encoding):
        msg = f"encoding: expected int16, int24 or float32, got {encoding!r}: choose one of them"
        raise ConfigError(msg)


def bytes_per_sample(encoding: Encoding) -> int:
    """Return the bytes of a sample of one channel; int24 has three."""
    return BITS[encoding] // 8


def decode_pcm(data: bytes, *, channels: int, encoding: Encoding) -> Samples:
    """Decode raw samples.

    Args:
        data: Whole frames.
        channels: In each frame, 1 or more.
        encoding: Of the samples.

    Returns:
        Samples of shape (channel, time), full scale at 1.
    """
    if encoding == "float32":
        values = np.frombuffer(data, "<f4").astype(np.float32)
    elif encoding == "int16":
        values = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
    else:
        # The three bytes become the upper ones of 32 bits, so that the sign is in its place.
        padded = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = (padded.view("<i4")[:, 0] >> 8).astype(np.float32) / np.float32(2**23)
    return np.ascontiguousarray(values.reshape(-1, channels).T)


def encode_pcm(samples: Samples, *, encoding: Encoding) -> tuple[bytes, int]:
    """Encode samples as raw samples; integers are rounded, and clipped at full scale.

    Args:
        samples: Shape (channel, time), full scale at 1.
        encoding: Of the bytes.

    Returns:
        The bytes, and the number of samples that were clipped.
    """
    frames = samples.T
    if encoding == "float32":
        return frames.astype("<f4").tobytes(), 0
    largest = 2 ** (BITS[encoding] - 1)
    scaled = np.rint(frames.astype(np.float64) * largest)
    clipped = np.clip(scaled, -largest, largest - 1)
    count = int(np.count_nonzero(clipped != scaled))
    if encoding == "int16":
        return clipped.astype("<i2").tobytes(), count
    whole = np.ascontiguousarray(clipped.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return whole[:, :3].tobytes(), count
