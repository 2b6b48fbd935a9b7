"""Inner products of short frames and equally spaced complex tones, computed with FFTs.

With c[n] = exp(-1j pi step n^2) and j k = (j^2 + k^2 - (k - j)^2) / 2,

    sum_j x[j] exp(-2j pi step j k) = c[k] sum_j (x[j] c[j]) conj(c[k - j]),

a convolution with a chirp, for any step. If 1 / step is a whole number of samples and not less than
the length of a frame, the sums are bins of a DFT of that length.

Source: Bluestein, "A linear filtering approach to the computation of discrete Fourier transform",
IEEE Trans. Audio Electroacoust. 18:451-455, 1970.
"""

from abc import ABC, abstractmethod
from fractions import Fraction

import torch
from torch import Tensor


class ToneSums(ABC):
    """Inner products with tones, and the adjoint.

    Attributes:
        work_size: Size of the temporary array per frame.
    """

    work_size: int

    @abstractmethod
    def analyze(self, frames: Tensor) -> Tensor:
        """Compute sum_j x[j] exp(-2j pi step j k) for k = 0 .. tones - 1.

        Args:
            frames: Real, shape (..., size).

        Returns:
            Complex, shape (..., tones).
        """

    @abstractmethod
    def synthesize(self, amplitudes: Tensor, factors: Tensor) -> Tensor:
        """Compute Re sum_k f[k] a[k] exp(2j pi step j k) for j = 0 .. size - 1.

        Args:
            amplitudes: Complex, shape (..., tones).
            factors: Real or complex, shape (tones,) or one that broadcasts with the amplitudes.

        Returns:
            Real, shape (..., size).
        """


def tone_sums(
    step: Fraction, *, size: int, tones: int, dtype: torch.dtype, device: torch.device
) -> ToneSums:
    """Prepare inner products with equally spaced tones.

    Args:
        step: Spacing of the frequencies in cycles per sample.
        size: Length of a frame in samples, 1 or more.
        tones: Number of frequencies 0, step, 2 step, ...; the last is at most 1/2.
        dtype: Real dtype of the frames.
        device: Their device.

    Returns:
        An object that computes the sums.
    """
    kind = _Bins if step.numerator == 1 and step.denominator >= size else _Chirps
    return kind(step, size, tones, dtype, device)


class _Bins(ToneSums):
    """Sums that are bins of a DFT."""

    def __init__(
        self, step: Fraction, size: int, tones: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.work_size = step.denominator
        self._size, self._tones = size, tones
        # An inverse real DFT counts each bin twice, except the first and, if there is one, that at
        # half the sampling frequency.
        counts = torch.full((tones,), 2.0, dtype=dtype, device=device)
        counts[0] = 1.0
        if 2 * (tones - 1) == self.work_size:
            counts[-1] = 1.0
        self._weights = self.work_size / counts

    def analyze(self, frames: Tensor) -> Tensor:
        bins: Tensor = torch.fft.rfft(frames, n=self.work_size)
        return bins[..., : self._tones]

    def synthesize(self, amplitudes: Tensor, factors: Tensor) -> Tensor:
        # The factors of a few frames first: the amplitudes are large.
        weighted = amplitudes * (factors * self._weights)
        samples: Tensor = torch.fft.irfft(weighted, n=self.work_size)
        return samples[..., : self._size]


class _Chirps(ToneSums):
    """Sums by convolution with chirps."""

    def __init__(
        self, step: Fraction, size: int, tones: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.work_size = _next_fast_size(size + tones - 1)
        self._size, self._tones = size, tones
        # Whole cycles are removed in integer arithmetic, because step n^2 is large.
        n = torch.arange(max(size, tones), device="cpu")
        turns = (n * n * step.numerator % (2 * step.denominator)).double() / (2 * step.denominator)
        chirp = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        kernel = torch.zeros(self.work_size, dtype=torch.complex128, device="cpu")
        kernel[:tones] = chirp[:tones].conj()
        kernel[self.work_size - size + 1 :] = chirp[1:size].flip(0).conj()  # k - j below 0
        kind = dtype.to_complex()
        self._chirp = chirp.to(kind).to(device)
        self._kernel = torch.fft.fft(kernel).to(kind).to(device)

    def analyze(self, frames: Tensor) -> Tensor:
        spectra = torch.fft.fft(frames * self._chirp[: self._size], n=self.work_size)
        sums: Tensor = torch.fft.ifft(spectra * self._kernel)
        return sums[..., : self._tones] * self._chirp[: self._tones]

    def synthesize(self, amplitudes: Tensor, factors: Tensor) -> Tensor:
        turned = amplitudes * (factors * self._chirp[: self._tones].conj())
        # The kernel of the adjoint is this one conjugated and time-reversed, so its DFT is the
        # conjugate of this one's.
        spectra = torch.fft.fft(turned, n=self.work_size) * self._kernel.conj()
        samples: Tensor = torch.fft.ifft(spectra)
        return (samples[..., : self._size] * self._chirp[: self._size].conj()).real


def _next_fast_size(size: int) -> int:
    """Return the smallest number of at least `size` whose prime factors are 2, 3 and 5.

    `scipy.fft.next_fast_len` gives the same, but SciPy loads slowly.
    """
    best = 1 << (size - 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << max(0, -(-size // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best
