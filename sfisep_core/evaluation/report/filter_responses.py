"""Frequency responses of an SFI model's encoder at each sampling frequency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.models.contract import SeparationModel
from sfisep_core.sfi.layers import SFIConv1d

_Values = npt.NDArray[np.float64]

_BINS = 512
_LOWEST = 1e-10  # lower bound of a response, so that its logarithm is finite
_BAND = 0.45  # of the lower of two rates: where the encoder's taps follow the analog filters


@dataclass(frozen=True)
class FilterResponses:
    """Magnitude responses of an encoder at one rate.

    Attributes:
        sample_rate: Hz.
        frequencies: In Hz, equally spaced from 0 to half the rate, shape (frequency,).
        magnitudes_db: Amplitude of the frames for a tone of amplitude 1, up to a factor that is the
            same at every rate, in dB, shape (filter, frequency); filters in the order of their
            centre frequencies.
        centers_hz: Centre frequencies of the analog filters, ascending, shape (filter,).
        deviation_db: Energy of the difference from the magnitudes at the native rate, relative to
            theirs, in dB, over all filters and frequencies up to 0.45 of the lower rate; NaN at the
            native rate itself.
    """

    sample_rate: int
    frequencies: _Values
    magnitudes_db: _Values
    centers_hz: _Values
    deviation_db: float


def filter_responses(model: SeparationModel, sample_rates: Sequence[int]) -> list[FilterResponses]:
    """Compute the responses of an encoder's taps at several rates.

    Frames of a tone have the same amplitude at every rate, so that responses can be compared
    directly. The exception is the published layout of time-domain taps, whose gain is proportional
    to the rate F: these responses are multiplied by F0 / F. At rates with several sets of taps
    (frames between samples) the first one is used.

    Args:
        model: Any model.
        sample_rates: Hz.

    Returns:
        Responses at each rate; empty for a model whose encoder is not an SFI layer.
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, SFIConv1d):
        return []
    centers = encoder.filters.centers_hz().detach().cpu().numpy()
    order = np.argsort(centers, kind="stable")
    responses = []
    for sample_rate in sample_rates:
        frequencies = np.linspace(0, sample_rate / 2, _BINS + 1)
        magnitudes = _magnitudes(encoder, sample_rate, frequencies)
        band = frequencies <= _BAND * min(sample_rate, encoder.native_rate)
        native = _magnitudes(encoder, encoder.native_rate, frequencies[band])
        responses.append(
            FilterResponses(
                sample_rate=sample_rate,
                frequencies=frequencies,
                magnitudes_db=20 * np.log10(np.maximum(magnitudes[order], _LOWEST)),
                centers_hz=centers[order],
                deviation_db=_relative_db(magnitudes[:, band] - native, native),
            )
        )
    return responses


@torch.no_grad()
def _magnitudes(encoder: SFIConv1d, sample_rate: int, frequencies: _Values) -> _Values:
    """Compute |sum_k h[k] e^{-2 pi i k f / F}|, shape (filter, frequency)."""
    taps = encoder.taps(sample_rate)[0].double().cpu().numpy()
    if encoder.design == "time" and not encoder.grid(sample_rate).shifts:
        taps = taps * (encoder.native_rate / sample_rate)
    turns = np.outer(np.arange(taps.shape[1]), frequencies) / sample_rate
    magnitudes: _Values = np.abs(taps @ np.exp(-2j * math.pi * turns))
    return magnitudes


def _relative_db(difference: _Values, reference: _Values) -> float:
    error, energy = float(np.square(difference).sum()), float(np.square(reference).sum())
    return 10 * math.log10(error / energy) if error > 0 and energy > 0 else math.nan
