"""What the encoder of an SFI model does at each sampling frequency."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet

_BINS = 512
_LOWEST = 1e-10  # of a response, so that it has a logarithm


@dataclass(frozen=True)
class FilterResponses:
    """Magnitude responses of an encoder at one rate.

    Attributes:
        sample_rate: Hz.
        frequencies: In Hz, from 0 to half the rate, shape (frequency,).
        magnitudes_db: Amplitude of a frame for a tone of amplitude 1, in dB, shape (filter,
            frequency); filters in the order of their centre frequencies.
        centers_hz: Centre frequencies of the analog filters, shape (filter,).
    """

    sample_rate: int
    frequencies: npt.NDArray[np.float64]
    magnitudes_db: npt.NDArray[np.float64]
    centers_hz: npt.NDArray[np.float64]


@torch.no_grad()
def filter_responses(model: SeparationModel, sample_rates: Sequence[int]) -> list[FilterResponses]:
    """Compute the responses of the encoder's taps at several rates.

    An encoder answers a tone by frames of the same size at every rate, so that responses are shown
    as they are, without any factor for the rate. Where a rate needs several sets of taps (frames
    between samples), it is the first one.

    Args:
        model: Any model.
        sample_rates: Hz.

    Returns:
        For each rate; nothing for a model whose encoder has no SFI layer.
    """
    if not isinstance(model, SFIConvTasNet):
        return []
    encoder = model.encoder
    centers = encoder.filters.centers_hz().double().cpu().numpy()
    order = np.argsort(centers)
    found = []
    for sample_rate in sample_rates:
        taps = encoder.taps(sample_rate)[0].double().cpu().numpy()[order]
        n_fft = max(2 * _BINS, taps.shape[1])
        magnitudes = np.abs(np.fft.rfft(taps, n=n_fft, axis=1))
        found.append(
            FilterResponses(
                sample_rate=sample_rate,
                frequencies=np.arange(n_fft // 2 + 1) * (sample_rate / n_fft),
                magnitudes_db=20 * np.log10(np.maximum(magnitudes, _LOWEST)),
                centers_hz=centers[order],
            )
        )
    return found
