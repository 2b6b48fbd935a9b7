"""Positions of the frames and bins of a short-time Fourier transform on a sample grid."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Literal

import torch
from torch import Tensor

from sfisep_core.audio.tone_sums import tone_sums
from sfisep_core.audio.windows import Window, evaluate_window
from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError
from sfisep_core.foundation.float64 import float64_device

Padding = Literal["reflect", "zeros"]
Scale = Literal["none", "ortho"]

# Size of the largest array of a block of frames, which fits into a CPU's caches.
_BLOCK_SIZE = 2**20


@dataclass(frozen=True)
class STFTConfig(CheckedConfig):
    """Settings of a transform, in samples at its native rate.

    Attributes:
        n_fft: Samples of a window, even; there are n_fft / 2 + 1 bins.
        hop: Samples between two frames, up to n_fft.
        window: "hann": sin^2 with period n_fft. "hann-symmetric" and "blackmanharris" have period
            n_fft - 1, so that their last sample equals their first (`numpy.hanning`,
            `scipy.signal.windows.blackmanharris`). "rectangular": 1.
        padding: Both put n_fft / 2 samples before the signal. "reflect": the reversed signal, also
            after it; 1 + floor(time / hop) frames (`torch.stft`). "zeros": ceil(time / hop) + 2
            frames (DeepConvSep).
        scale: "none", or "ortho": spectra are divided by sqrt(n_fft).

    Raises:
        ConfigError: A value is out of range.
    """

    section = "setting stft."

    n_fft: Annotated[int, Range(2, 65536, parity="even")] = 2048
    hop: Annotated[int, Range(1, 65536)] = 512
    window: Window = "hann"
    padding: Padding = "reflect"
    scale: Scale = "none"

    def __post_init__(self) -> None:
        """Check values, and the hop against the window."""
        super().__post_init__()
        if self.hop > self.n_fft:
            msg = f"setting stft.hop: expected at most n_fft ({self.n_fft}), got {self.hop}"
            raise ConfigError(msg)

    @property
    def num_bins(self) -> int:
        """Number of bins of a spectrum."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True)
class Block:
    """Some of the frames.

    A frame's first sample lies up to one sample after the frame's start.

    Attributes:
        frames: Indices of the frames.
        starts: First samples of the frames, shape (frames,).
        windows: Window values at the samples, shape (frames or 1, size); 1 if all are equal.
        turns: exp(-2j pi f t) for the time t from a frame's start to its first sample, shape
            (frames or 1, tones).
    """

    frames: slice
    starts: Tensor
    windows: Tensor
    turns: Tensor


class Grid:
    """Frames and bins of a transform on the samples of a signal; names as in `stft`.

    Args:
        config: Settings, at the native rate.
        native_rate: F0 in Hz.
        rate: F in Hz.
        dtype: Real dtype of the samples.
        device: Their device.

    Attributes:
        size: Length of a window in samples, rounded up.
        tones: Number of bins up to F / 2.
        overlap: Number of frames after which the next one does not overlap the first.
        gain: Factor applied to the sums over a frame.
        is_plain: Whether gain and all turns are 1: frames start at samples of the native rate.
        counts: Factors of the bins in the inverse, e_k / n_fft without the scale; shape (tones,).
        offsets: 0 .. size - 1.
        sums: Computes the sums over a frame.
    """

    def __init__(
        self,
        config: STFTConfig,
        native_rate: int,
        rate: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._config, self._native_rate, self._rate = config, native_rate, rate
        self._dtype = dtype
        self.size = -(-config.n_fft * rate // native_rate)
        span = Fraction(config.n_fft * min(rate, native_rate), native_rate)  # in bins
        self.tones = math.floor(span / 2) + 1
        self.overlap = -(-self.size // (config.hop * rate // native_rate))
        scale = math.sqrt(config.n_fft) if config.scale == "ortho" else 1.0
        self.gain = native_rate / (rate * scale)
        self.is_plain = rate == native_rate and config.scale == "none"
        counts = torch.full((self.tones,), 2.0, dtype=dtype, device=device)
        counts[-1] = float(span) - 2 * (self.tones - 1) + 1
        counts[0] = 1.0
        self.counts = counts * (scale / config.n_fft)
        self.offsets = torch.arange(self.size, device=device)
        self.sums = tone_sums(
            Fraction(native_rate, config.n_fft * rate),
            size=self.size,
            tones=self.tones,
            dtype=dtype,
            device=device,
        )

    def start(self, frame: int) -> int:
        """Compute the first sample at or after the start of a frame."""
        begin = (frame * self._config.hop - self._config.n_fft // 2) * self._rate
        return -(-begin // self._native_rate)

    def blocks(self, frames: int, *, num_signals: int) -> Iterator[Block]:
        """Yield all frames in blocks of limited size, which bounds the memory."""
        length = max(1, _BLOCK_SIZE // (num_signals * self.sums.work_size))
        for first in range(0, frames, length):
            yield self._block(first, min(first + length, frames))

    def _block(self, first: int, stop: int) -> Block:
        config, native_rate, rate = self._config, self._native_rate, self._rate
        # Times are integers in units of 1 / (F F0) seconds, which is exact.
        device = self.offsets.device
        numbers = torch.arange(first, stop, device=float64_device(device))
        begins = (numbers * config.hop - config.n_fft // 2) * rate
        starts = -(-begins // native_rate)
        delays = starts * native_rate - begins
        if config.hop * rate % native_rate == 0:
            delays = delays[:1]
        windows = evaluate_window(
            config.window,
            delays[:, None] + native_rate * torch.arange(self.size, device=starts.device),
            n_fft=config.n_fft,
            ticks_per_sample=rate,
        )
        cycles = delays[:, None].double() * torch.arange(self.tones, device=starts.device)
        cycles = cycles / (config.n_fft * rate)  # half a cycle at most
        turns = torch.polar(torch.ones_like(cycles), -2 * torch.pi * cycles)
        return Block(
            frames=slice(first, stop),
            starts=starts.to(device),
            windows=windows.to(self._dtype).to(device),
            turns=turns.to(self._dtype.to_complex()).to(device),
        )


@lru_cache(maxsize=64)
def make_grid(
    config: STFTConfig, native_rate: int, rate: int, dtype: torch.dtype, device: torch.device
) -> Grid:
    """Build a grid; grids are cached."""
    with torch.inference_mode(False):  # a cached grid may later be used with gradients
        return Grid(config, native_rate, rate, dtype, device)
