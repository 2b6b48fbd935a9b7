"""Fit the filters of BSS Eval over a whole track, and filter frames with them.

An estimate is projected on the space of FIR-filtered references: of all sources, and of its own
source alone. Both projections are least-squares fits over the track. With the delays 0 ... L-1 of
every channel x_i of the references, the normal equations contain the correlations

    G[(i, a), (j, b)] = sum_t x_i[t - a] x_j[t - b],    D[(i, a), q] = sum_t x_i[t - a] e_q[t],

so G depends only on a - b: it is defined by L lags of each pair of channels. They are summed from
spectra of blocks, so that memory does not depend on the track's length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sfisep_core.evaluation import block_toeplitz
from sfisep_core.evaluation.ratios import Signal

BLOCKS_PER_PASS = 8
# Blocks overlap by L - 1 samples: long enough that the overlap is a small part, short enough for
# the processor's cache.
_MIN_FFT_LENGTH = 4096


@dataclass(frozen=True)
class DistortionFilters:
    """Filters of a set of estimates, ready for filtering.

    Attributes:
        condition: Ratio of the extreme eigenvalues of the Gram matrix G of all references; inf if
            it is too large to be computed.
    """

    condition: float
    _spectra: torch.Tensor  # (frequency, channel of a projection, channel of a reference)
    _overlap: int

    @property
    def step(self) -> int:
        """Number of samples that one block adds to the result."""
        return _fft_length(self._overlap + 1) - self._overlap

    def project(self, references: Sequence[Signal]) -> Iterator[tuple[int, torch.Tensor]]:
        """Filter a frame, as if there were silence before and after it.

        Args:
            references: Samples of the frame of every source to which the filters were fitted, shape
                (channel, time).

        Yields:
            The position in the frame and, from there on, the projections on all references and on
            those of the own source, shape (2, estimate, channel, time). They extend beyond the end
            of the frame by the filter length minus one, and end in zeros.
        """
        channels, frames = references[0].shape
        for start in range(0, frames + self._overlap, BLOCKS_PER_PASS * self.step):
            count = min(BLOCKS_PER_PASS, -(-(frames + self._overlap - start) // self.step))
            stop = start + count * self.step
            x = samples(references, start - self._overlap, stop, device=self._spectra.device)
            n_fft = self.step + self._overlap
            spectra = torch.fft.rfft(x.flatten(0, 1).unfold(-1, n_fft, self.step))
            # Contiguous, like all operands in this module: other layouts are several times slower.
            products = self._spectra @ spectra.permute(2, 0, 1).contiguous()
            filtered = torch.fft.irfft(products.permute(1, 2, 0).contiguous())
            # The first samples of a block are discarded because of circular wrap-around.
            valid = filtered[..., self._overlap :].reshape(2, -1, channels, stop - start)
            yield start, valid


def fit(
    references: Sequence[Signal],
    estimates: Sequence[Signal],
    *,
    own: Sequence[int],
    filter_length: int,
    device: torch.device,
) -> DistortionFilters:
    """Fit the filters that bring the references closest to each estimate.

    Args:
        references: One per source, shape (channel, time), none silent.
        estimates: Shape (channel, time), none longer; shorter ones are zero-padded.
        own: For each estimate, the index of its reference.
        filter_length: Taps of the filters, 1 or more.
        device: Where to compute.

    Returns:
        The filters, in float64.
    """
    channels = references[0].shape[0]
    lags = correlations(references, estimates, filter_length=filter_length, device=device)
    num_references = len(references) * channels
    n_fft = _fft_length(filter_length)
    spectra = lags.new_zeros(
        (n_fft // 2 + 1, 2, len(estimates), channels, num_references), dtype=torch.complex128
    )
    filters, condition = block_toeplitz.solve(
        lags[None, :, :, :num_references], lags[None, :, :, num_references:]
    )
    spectra[:, 0] = torch.fft.rfft(filters[0].mT, n=n_fft, dim=0).unflatten(1, (-1, channels))
    ours = [slice(source * channels, (source + 1) * channels) for source in own]
    theirs = range(num_references, lags.shape[2], channels)
    filters, _ = block_toeplitz.solve(
        torch.stack([lags[:, rows, rows] for rows in ours]),
        torch.stack(
            [lags[:, rows, n : n + channels] for rows, n in zip(ours, theirs, strict=True)]
        ),
    )
    for number, rows in enumerate(ours):
        spectra[:, 1, number, :, rows] = torch.fft.rfft(filters[number].mT, n=n_fft, dim=0)
    return DistortionFilters(float(condition[0]), spectra.flatten(1, 3), filter_length - 1)


def samples(
    signals: Sequence[Signal], start: int, stop: int, *, device: torch.device
) -> torch.Tensor:
    """Read samples in float64, with zeros outside a signal.

    Args:
        signals: Shape (channel, time), lengths may differ.
        start: First sample; may be negative.
        stop: The one after the last.
        device: Device of the result.

    Returns:
        Shape (signal, channel, stop - start).
    """
    rows = np.zeros((len(signals), signals[0].shape[0], stop - start))
    first = max(start, 0)
    for row, signal in zip(rows, signals, strict=True):
        inside = signal[:, first : max(stop, first)]
        row[:, first - start : first - start + inside.shape[1]] = inside
    return torch.from_numpy(rows).to(device)


def _fft_length(filter_length: int) -> int:
    return max(_MIN_FFT_LENGTH, 8 * filter_length)


def correlations(
    references: Sequence[Signal],
    estimates: Sequence[Signal],
    *,
    filter_length: int,
    device: torch.device,
) -> torch.Tensor:
    """Correlate the references' channels with all channels.

    Args:
        references: One per source, shape (channel, time).
        estimates: Shape (channel, time), none longer.
        filter_length: Number of lags, from 0 on.
        device: Where to compute.

    Returns:
        sum_t x_i[t] y_j[t + lag], shape (lag, i, j): y are the references and estimates.
    """
    channels, frames = references[0].shape
    num_references = len(references) * channels
    num_all = num_references + len(estimates) * channels
    n_fft = _fft_length(filter_length)
    step = n_fft - filter_length + 1
    cross = torch.zeros(
        (n_fft // 2 + 1, num_references, num_all), dtype=torch.complex128, device=device
    )
    for start in range(0, frames, BLOCKS_PER_PASS * step):
        count = min(BLOCKS_PER_PASS, -(-(frames - start) // step))
        stop = start + count * step
        y = samples([*references, *estimates], start, stop + filter_length - 1, device=device)
        x = y[: len(references), :, : stop - start].reshape(num_references, count, step)
        x_spectra = torch.fft.rfft(x, n=n_fft)
        y_spectra = torch.fft.rfft(y.flatten(0, 1).unfold(-1, n_fft, step))
        x_spectra, y_spectra = x_spectra.permute(2, 0, 1), y_spectra.permute(2, 1, 0)
        cross += x_spectra.conj().resolve_conj().contiguous() @ y_spectra.contiguous()
    correlations: torch.Tensor = torch.fft.irfft(cross, n=n_fft, dim=0)
    return correlations[:filter_length].contiguous()
