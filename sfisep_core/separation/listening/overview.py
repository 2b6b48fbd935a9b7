"""What the page draws of a recording: peaks and a spectrogram of fixed size, read in blocks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.files import AudioReader
from sfisep_core.audio.mel import mel_bands, mel_power, mel_window
from sfisep_core.audio.stores import BLOCK_FRAMES, Samples

COLUMNS = 2000
"""Columns of a drawing at most: the sharpest screens show about as many."""

# Of which a column of the spectrogram is the mean, in recordings that have more.
_LEAST_WINDOWS = 4
_RF64 = b"RF64"


@dataclass(frozen=True, eq=False)
class Overview:
    """A recording at the resolution of a drawing.

    Attributes:
        sample_rate: Hz.
        channels: Number of channels.
        frames: Samples per channel.
        container: Format of the file, as `AudioInfo` names it; RF64 is `rf64`.
        encoding: Sample format or codec, as `AudioInfo` names it.
        peaks: Smallest (or 0) and largest (or 0) sample of all channels in each column, shape
            (2, column).
        power: Mean power in mel bands of each column, shape (band, column), the lowest band first:
            of windows that are spread evenly, and over channels.
    """

    sample_rate: int
    channels: int
    frames: int
    container: str
    encoding: str
    peaks: npt.NDArray[np.float32]
    power: npt.NDArray[np.float32]

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.frames / self.sample_rate


def read_overview(path: Path) -> Overview:
    """Read an audio file of any length, in memory that does not depend on it.

    Args:
        path: The file.

    Raises:
        AudioFileError: It cannot be read.
    """
    with AudioReader(path) as reader:
        info = reader.info
        peaks = _Peaks(info.frames)
        spectrogram = _Spectrogram(info.channels, info.frames, info.sample_rate)
        for block in reader.blocks(BLOCK_FRAMES):
            peaks.add(block)
            spectrogram.add(block)
    return Overview(
        sample_rate=info.sample_rate,
        channels=info.channels,
        frames=info.frames,
        container="rf64" if _is_rf64(path) else info.container,
        encoding=info.encoding,
        peaks=peaks.values,
        power=spectrogram.finished(),
    )


class _Peaks:
    """Extremes of all channels in each column."""

    def __init__(self, frames: int) -> None:
        self._frames = max(frames, 1)
        self._position = 0
        self.values = np.zeros((2, min(COLUMNS, self._frames)), dtype=np.float32)

    def add(self, block: Samples) -> None:
        columns = _columns(
            self._position + np.arange(block.shape[-1]), self._frames, self.values.shape[-1]
        )
        first = np.flatnonzero(np.diff(columns, prepend=-1))  # where another column begins
        places = columns[first]
        lowest = np.minimum.reduceat(block.min(axis=0), first)
        highest = np.maximum.reduceat(block.max(axis=0), first)
        self.values[0, places] = np.minimum(self.values[0, places], lowest)
        self.values[1, places] = np.maximum(self.values[1, places], highest)
        self._position += block.shape[-1]


class _Spectrogram:
    """Mean power in each column, of windows that are spread evenly over the recording."""

    def __init__(self, channels: int, frames: int, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._window = mel_window(sample_rate)
        self._frames = max(frames, 1)
        half = self._window // 2
        # Half a window, or longer where a column still has several: long recordings would take
        # minutes otherwise, for a mean that looks the same.
        self._hop = half * max(1, self._frames // half // (COLUMNS * _LEAST_WINDOWS))
        # A column is a hop or longer, so that each has a window.
        count = max(1, min(COLUMNS, self._frames // self._hop))
        self._windows = 0
        self._sums = np.zeros((count, mel_bands(sample_rate)))
        self._numbers = np.zeros(count, dtype=np.int64)
        # Samples that wait for the rest of their window; the first is centred on the first sample.
        self._rest = np.zeros((channels, half), dtype=np.float32)
        self._skip = 0  # samples before the next window

    def add(self, block: Samples) -> None:
        signal = np.concatenate([self._rest, block], axis=-1)
        length = signal.shape[-1]
        number = (length - self._skip - self._window) // self._hop + 1
        if number > 0:
            power = mel_power(signal[:, self._skip :], self._sample_rate, hop=self._hop)
            centres = (self._windows + np.arange(number)) * self._hop
            columns = _columns(centres, self._frames, len(self._sums))
            np.add.at(self._sums, columns, power.mean(axis=0).T)
            np.add.at(self._numbers, columns, 1)
            self._windows += number
            self._skip += number * self._hop
        used = min(self._skip, length)
        self._rest = signal[:, used:]
        self._skip -= used

    def finished(self) -> npt.NDArray[np.float32]:
        """Return the spectrogram, shape (band, column); nothing can be added any more."""
        self.add(np.zeros((self._rest.shape[0], self._window // 2), dtype=np.float32))
        power: npt.NDArray[np.float32] = (
            self._sums / np.maximum(self._numbers, 1)[:, np.newaxis]
        ).T.astype(np.float32)
        return power


def _columns(positions: npt.NDArray[np.int64], frames: int, count: int) -> npt.NDArray[np.int64]:
    """Return the column of each position; what a wrong header leaves behind the end is the last."""
    columns: npt.NDArray[np.int64] = np.minimum(positions * count // frames, count - 1)
    return columns


def _is_rf64(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_RF64)) == _RF64
