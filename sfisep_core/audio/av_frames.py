"""Convert frames of PyAV to samples of one rate and one number of channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av import AudioFrame, AudioLayout, AudioResampler
from numpy.typing import DTypeLike, NDArray

# ffmpeg numbers loudspeakers as WAV does.
_SPEAKERS = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR".split()  # noqa: SIM905
_DTYPES: dict[str, DTypeLike] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
# With more planes PyAV 18.1 reports one too many: such frames are converted to packed first.
_MAX_PLANES = 7


class FrameConverter:
    """Convert frames in order; those of another rate or layout are resampled and remixed.

    Attributes:
        sample_rate: Sample rate of the output in Hz.
        channels: Number of channels of the output.
        channel_mask: Loudspeaker positions as a WAV channel mask; 0 = unspecified.
    """

    def __init__(self, sample_rate: int, layout: AudioLayout) -> None:
        """Start without any frame converted.

        Args:
            sample_rate: In Hz.
            layout: The channels.
        """
        self.sample_rate, self.channels = sample_rate, layout.nb_channels
        speakers = [channel.name for channel in layout.channels]
        known = all(name in _SPEAKERS for name in speakers) and len(speakers) == self.channels
        self.channel_mask = sum(1 << _SPEAKERS.index(name) for name in speakers) if known else 0
        self._layout = layout
        self._resampler: AudioResampler | None = None
        self._resampled_kind: tuple[int, int, str] | None = None

    def fits(self, frame: AudioFrame) -> bool:
        """Tell whether a frame has the rate and the number of channels of the output."""
        return (frame.sample_rate, frame.layout.nb_channels) == (self.sample_rate, self.channels)

    def convert(self, frame: AudioFrame) -> Iterator[NDArray[np.float32]]:
        """Yield the remaining samples of earlier frames and the samples of a frame.

        Args:
            frame: The next frame.

        Yields:
            Samples of shape (channels, frames), full scale at 1.0.
        """
        if self.fits(frame) and not (frame.format.is_planar and self.channels > _MAX_PLANES):
            yield from self.flush()
            yield _samples(frame)
        else:
            yield from self._resample(frame)

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples that the resampler still holds."""
        if self._resampler is not None:
            for last in self._resampler.resample(None):
                yield _samples(last)
            self._resampler = None

    def _resample(self, frame: AudioFrame) -> Iterator[NDArray[np.float32]]:
        kind = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
        if kind != self._resampled_kind:
            yield from self.flush()
        if self._resampler is None:
            self._resampled_kind = kind
            self._resampler = AudioResampler("flt", self._layout, self.sample_rate)
        frame.pts = None
        for part in self._resampler.resample(frame):
            yield _samples(part)


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    """Return samples of any format as floats, shape (channels, frames)."""
    channels = frame.layout.nb_channels
    kind = _DTYPES[frame.format.packed.name]
    if frame.format.is_planar:
        planes = frame.planes[:channels]
        samples = np.stack(
            [np.frombuffer(memoryview(plane), kind, frame.samples) for plane in planes]
        )
    else:
        packed = np.frombuffer(memoryview(frame.planes[0]), kind, frame.samples * channels)
        samples = packed.reshape(-1, channels).T
    if samples.dtype.kind == "f":
        return np.array(samples, dtype=np.float32, order="C")
    full_scale = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    scaled = samples.astype(np.float32) / full_scale
    return np.ascontiguousarray(scaled - 1 if samples.dtype.kind == "u" else scaled)
