"""Drawings of overviews, as text to embed in a page."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DYNAMIC_RANGE_DB = 80
_SILENCE = 1e-12
_QUALITY = 70  # of WebP; a spectrogram of 2000 columns then takes about 60 kB
_PEAK_STEPS = 127

# Black, violet, red, orange, pale yellow: evenly brighter, for all kinds of colour vision.
_COLOURS = (
    (4, 4, 16),
    (54, 16, 104),
    (130, 38, 128),
    (206, 64, 104),
    (248, 140, 98),
    (252, 244, 196),
)


def peaks_text(peaks: npt.NDArray[np.float32], *, largest: float) -> str:
    """Encode peaks as base64 of signed bytes, all minima before all maxima.

    Args:
        peaks: Shape (2, column).
        largest: The value that becomes 127; 0 where all are silent.
    """
    scaled = np.rint(peaks * (_PEAK_STEPS / largest)) if largest > 0 else np.zeros_like(peaks)
    return base64.b64encode(scaled.astype(np.int8).tobytes()).decode("ascii")


def spectrogram_uris(powers: Sequence[npt.NDArray[np.float32]]) -> list[str]:
    """Draw spectrograms on one scale: 80 dB below the loudest place of all.

    Args:
        powers: Shape (band, column), the lowest band first; at least one.

    Returns:
        Data URIs of WebP images, a pixel for each value, low bands at the bottom.
    """
    levels = [10 * np.log10(np.maximum(power, _SILENCE)) for power in powers]
    top = max(float(level.max()) for level in levels)
    return [_image_uri((level - top) / DYNAMIC_RANGE_DB + 1) for level in levels]


def _image_uri(brightness: npt.NDArray[np.floating]) -> str:
    from PIL import Image

    places = np.clip(brightness[::-1], 0, 1) * (len(_COLOURS) - 1)
    steps = np.arange(len(_COLOURS))
    pixels = np.stack(
        [np.interp(places, steps, channel) for channel in np.array(_COLOURS).T], axis=-1
    )
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
