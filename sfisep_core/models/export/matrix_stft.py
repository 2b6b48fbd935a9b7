"""The transform of `audio.stft` as matrix products, for graphs without complex numbers.

For a frame's samples x[j] times their window, and tones `step` cycles per sample apart, the sums of
`audio.tone_sums` are

    Re X[k] = sum_j x[j] cos(2 pi step j k),    Im X[k] = -sum_j x[j] sin(2 pi step j k),

and those of the inverse are products with the same matrices, transposed. The graph computes the
matrices from whole numbers: as constants they would add 67 MB to a file with windows of 4096
samples. ONNX has a Fourier transform, but ONNX Runtime computes it with errors of 1e-3 where the
length is no power of two, which it is at few rates.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from sfisep_core.audio.stft import LEAST_POWER, STFT, Grid, make_grid, pad_signals


@dataclass(frozen=True)
class MatrixSTFT(STFT):
    """An `STFT` that computes with pairs of real numbers, and hands them over as complex ones.

    Its constants are computed by the first call; calls that are traced find them in a cache.
    """

    def analyze(self, signals: Tensor, *, sample_rate: int) -> Tensor:
        """Compute spectra of signals; see `STFT.analyze`."""
        length = signals.shape[-1]
        frames = self.num_frames(length, sample_rate=sample_rate)
        tables = _find_tables(self, sample_rate, frames)
        grid, before = tables.grid, -tables.grid.start(0)
        after = max(0, grid.start(frames - 1) + grid.size - length)
        padded = pad_signals(signals.reshape(-1, length), before, after, self.config.padding)
        taken = padded.index_select(1, tables.places()).view(-1, frames, grid.size)
        taken = taken * tables.of_frames(tables.windows)
        cosines, sines = tables.matrices()
        sums = _multiply(taken @ cosines, -(taken @ sines), *map(tables.of_frames, tables.turns))
        parts = torch.stack(sums, dim=-1) * grid.gain  # (N, frames, tones, 2)
        parts = functional.pad(parts, (0, 0, 0, self.config.num_bins - grid.tones)).transpose(1, 2)
        shape = (*signals.shape[:-1], self.config.num_bins, frames, 2)
        return torch.view_as_complex(parts.reshape(shape).contiguous())

    def synthesize(self, spectra: Tensor, *, sample_rate: int, length: int) -> Tensor:
        """Compute signals from spectra; see `STFT.synthesize`."""
        frames = spectra.shape[-1]
        tables = _find_tables(self, sample_rate, frames)
        grid, before = tables.grid, -tables.grid.start(0)
        parts = torch.view_as_real(spectra).reshape(-1, self.config.num_bins, frames, 2)
        parts = parts[:, : grid.tones].transpose(1, 2)
        turn_real, turn_imag = map(tables.of_frames, tables.turns)
        real, imag = _multiply(parts[..., 0], parts[..., 1], turn_real, -turn_imag)
        cosines, sines = tables.matrices()
        taken = (real * grid.counts) @ cosines.t() - (imag * grid.counts) @ sines.t()
        taken = (taken * tables.of_frames(tables.windows)).flatten(1)
        sums = taken.new_zeros(len(taken), len(tables.power))
        sums = sums.index_add(1, tables.places(), taken) / tables.power
        sums = functional.pad(sums, (0, max(0, before + length - sums.shape[1])))
        return sums[:, before : before + length].reshape(*spectra.shape[:-2], length)


@dataclass(frozen=True)
class _Tables:
    """Constants of a transform at a rate, for a number of frames.

    Attributes:
        grid: Frames and bins.
        step: Distance of the tones in cycles per sample.
        starts: First samples of the frames, from that of the first frame on; shape (frames,).
        kinds: For each frame, the row of `windows` and `turns`; shape (frames,).
        windows: Windows on the samples, shape (kinds, size).
        turns: Real and imaginary parts of the factors of spectra, shape (kinds, tones) each.
        power: Sum of the squared windows at every sample.
    """

    grid: Grid
    step: Fraction
    starts: Tensor
    kinds: Tensor
    windows: Tensor
    turns: tuple[Tensor, Tensor]
    power: Tensor

    def places(self) -> Tensor:
        """Return the samples of all frames, from the first one's start on; (frames * size,)."""
        return (self.starts[:, None] + torch.arange(self.grid.size)).flatten()

    def of_frames(self, rows: Tensor) -> Tensor:
        """Return the row of each frame."""
        return rows if len(rows) == 1 else rows.index_select(0, self.kinds)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of all samples and tones, shape (size, tones)."""
        turns = torch.arange(self.grid.size)[:, None] * torch.arange(self.grid.tones)
        # Whole turns are left out in whole numbers, which are exact.
        cycles = (turns * self.step.numerator) % self.step.denominator
        angles = cycles.float() * (2 * torch.pi / self.step.denominator)
        return torch.cos(angles), torch.sin(angles)


@lru_cache(maxsize=32)
def _find_tables(stft: MatrixSTFT, rate: int, frames: int) -> _Tables:
    config, native_rate = stft.config, stft.native_rate
    grid = make_grid(config, native_rate, rate, torch.float32, torch.device("cpu"))
    blocks = list(grid.blocks(frames, num_signals=1))
    repeat = min(stft.hop(rate).denominator, frames)  # frames after which delays repeat
    windows = torch.cat([block.windows for block in blocks])[:repeat]
    turns = torch.cat([block.turns for block in blocks])[:repeat]
    starts = torch.cat([block.starts for block in blocks]) - grid.start(0)
    kinds = torch.arange(frames) % len(windows)
    power = torch.zeros(int(starts[-1]) + grid.size)
    for start, kind in zip(starts.tolist(), kinds.tolist(), strict=True):
        power[start : start + grid.size] += windows[kind].square()
    return _Tables(
        grid=grid,
        step=Fraction(native_rate, config.n_fft * rate),
        starts=starts,
        kinds=kinds,
        windows=windows,
        turns=(turns.real.contiguous(), turns.imag.contiguous()),
        power=torch.where(power > LEAST_POWER, power, 1.0),
    )


def _multiply(
    real: Tensor, imag: Tensor, by_real: Tensor, by_imag: Tensor
) -> tuple[Tensor, Tensor]:
    """Multiply complex numbers; returns real and imaginary parts."""
    return real * by_real - imag * by_imag, real * by_imag + imag * by_real
