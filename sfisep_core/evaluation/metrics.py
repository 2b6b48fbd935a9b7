"""The scores that exist, their definitions, and those of whole tracks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.ratios import Signal, check_shapes, si_sdr, snr


@dataclass(frozen=True)
class MetricDefinition:
    """Meaning of a score, for tables and files.

    Attributes:
        label: Its name in a table.
        definition: One sentence that says what is computed.
        unit: Its unit.
        band_limit: Frequency in Hz up to which it counts; None means all.
        higher_is_better: Whether a better estimate has a higher value.
    """

    label: str
    definition: str
    unit: str = "dB"
    band_limit: float | None = None
    higher_is_better: bool = True


IN_BAND = 16_000.0
"""Hz: band of the models of this package."""
COMMON_BAND = 4_000.0
"""Hz: band that signals of all sample rates from 8 kHz have in common."""

_SI_SDR = (
    "10 log10(|t|^2 / |e - t|^2), t = (<e, s> / <s, s>) s: estimate e, reference s, summed over "
    "all channels and samples of the track, no mean taken out"
)
_SNR = (
    "10 log10(|s|^2 / |e - s|^2): estimate e, reference s, summed over all channels and samples "
    "of the track (uSDR, the SDR of the MDX challenges, which add 1e-7 to both sums)"
)
_FRAMEWISE = (
    "in frames of one second, filters of 512 taps fitted over the track (BSS Eval v4 as in "
    "museval); the length of the filters in seconds depends on the sample rate, so that values at "
    "different rates do not compare"
)


def _banded(name: str, definition: str, limit: float) -> MetricDefinition:
    kilohertz = f"{limit / 1000:g} kHz"
    return MetricDefinition(
        label=f"{name} to {kilohertz}",
        definition=f"{definition}; of the track's spectrum, only what is at or below {kilohertz}",
        band_limit=limit,
    )


WHOLE_TRACK_METRICS = {
    "si_sdr": MetricDefinition("SI-SDR", _SI_SDR),
    "si_sdr_in_band": _banded("SI-SDR", _SI_SDR, IN_BAND),
    "si_sdr_common_band": _banded("SI-SDR", _SI_SDR, COMMON_BAND),
    "snr": MetricDefinition("SNR", _SNR),
    "snr_in_band": _banded("SNR", _SNR, IN_BAND),
    "snr_common_band": _banded("SNR", _SNR, COMMON_BAND),
}
"""The scores of `whole_track_scores`."""

IMPROVEMENT_METRICS = {
    "si_snr_improvement": MetricDefinition(
        "SI-SNRi",
        "SI-SNR of the estimate minus that of the mixture: the SI-SDR of signals whose mean has "
        "been taken out",
    ),
    "sdr_improvement": MetricDefinition(
        "SDRi",
        "SDR of the estimate minus that of the mixture, over the whole track, in which filters of "
        "512 taps of the reference are no distortion (BSS Eval v3, as for speech; not SDR of v4)",
    ),
}
"""The scores of `improvement.improvement_scores`, for sources without names."""

BSS_EVAL_METRICS = {
    "sdr": MetricDefinition(
        "SDR",
        "10 log10(|s|^2 / |e - s|^2), estimate e, reference s, summed over the channels and "
        "samples of a frame of one second (BSS Eval v4 as in museval; no filters are involved)",
    ),
    "isr": MetricDefinition(
        "ISR", f"reference to spatial distortion: filtering of the own source, {_FRAMEWISE}"
    ),
    "sir": MetricDefinition("SIR", f"own source, filtered, to the other sources, {_FRAMEWISE}"),
    "sar": MetricDefinition("SAR", f"all sources, filtered, to what is neither, {_FRAMEWISE}"),
}
"""The scores of `bss_eval.bss_eval`."""

DEFINITIONS = {
    **BSS_EVAL_METRICS,
    **WHOLE_TRACK_METRICS,
    **IMPROVEMENT_METRICS,
    "leakage_db": MetricDefinition(
        "leakage",
        "level of the estimate of a source that is silent throughout the track, relative to the "
        "sum of all references: -inf is right",
        higher_is_better=False,
    ),
    "equivariance_db": MetricDefinition(
        "equivariance error",
        "10 log10(|y - r|^2 / |r|^2), all sources, channels and samples of the track up to 0.45 of "
        "the lower of both rates: r are the stems that the model makes at its native rate, "
        "resampled to the rate scored, y those of the method at that rate. A system that cares for "
        "nothing but the sound has -inf (after Imamura et al., EUSIPCO 2025, who take the error "
        "inside the network)",
        higher_is_better=False,
    ),
}
"""All scores by their keys in files and tables."""


_ADDED: dict[str, Callable[[Signal, Signal, int], float]] = {}


def add_metric(
    key: str, definition: MetricDefinition, compute: Callable[[Signal, Signal, int], float]
) -> None:
    """Add a score of whole tracks to all that are computed, stored and shown.

    Scores that were stored without it are computed again. Parallel worker processes import the
    package anew: they only know scores that are added by modules of the package.

    Args:
        key: Its name in files; an existing name is an error.
        definition: Its meaning.
        compute: Called with the estimate and the reference, each of shape (channel, time), and
            their sampling frequency in Hz. It returns NaN where the score is undefined.

    Raises:
        ConfigError: There is already a score of this name.
    """
    if key in DEFINITIONS:
        msg = (
            f"metric {key!r}: expected a name of its own, got that of {DEFINITIONS[key].label}: "
            "choose another"
        )
        raise ConfigError(msg)
    DEFINITIONS[key] = WHOLE_TRACK_METRICS[key] = definition
    _ADDED[key] = compute


def whole_track_scores(
    *, estimate: Signal, reference: Signal, sample_rate: int
) -> dict[str, float]:
    """Compute the scores of a whole track in the full band, in band and in the common band.

    A band is cut out of the spectrum of the zero-padded track, which is an ideal low-pass filter;
    energies are sums over frequencies.

    Args:
        estimate: Shape (channel, time).
        reference: Same shape.
        sample_rate: Rate of both in Hz.

    Returns:
        Values in dB under the keys of `WHOLE_TRACK_METRICS`; see `si_sdr` and `snr` for inf and
        nan. A band that reaches half the sample rate is the full band.

    Raises:
        ConfigError: The shapes differ.
    """
    check_shapes("the scores of a track", estimate, reference)
    scores = {}
    spectra: tuple[Signal, Signal] | None = None
    for suffix, limit in (("", math.inf), ("_in_band", IN_BAND), ("_common_band", COMMON_BAND)):
        e, s = estimate, reference
        if limit < sample_rate / 2:
            if spectra is None:
                spectra = _spectrum(estimate), _spectrum(reference)
            bins = math.floor(limit * 2 * (spectra[0].shape[1] - 1) / sample_rate) + 1
            e, s = spectra[0][:, :bins], spectra[1][:, :bins]
        scores[f"si_sdr{suffix}"] = si_sdr(estimate=e, reference=s)
        scores[f"snr{suffix}"] = snr(estimate=e, reference=s)
    for key, compute in _ADDED.items():
        scores[key] = compute(estimate, reference, sample_rate)
    return {key: scores[key] for key in WHOLE_TRACK_METRICS}


def _spectrum(signal: Signal) -> Signal:
    """Compute a spectrum, (channel, frequency, part), that preserves inner products of signals.

    They are preserved up to a factor. The parts are real and imaginary; all frequencies but the
    first and last are weighted by sqrt(2), since they also represent their negatives.
    """
    # An even length, so that there is a last frequency.
    n_fft = 2 * scipy.fft.next_fast_len(-(-signal.shape[1] // 2), real=True)
    spectrum = scipy.fft.rfft(signal.astype(np.float64), n=n_fft)
    spectrum[:, 1:-1] *= math.sqrt(2)
    parts: Signal = spectrum.view(np.float64).reshape(*spectrum.shape, 2)
    return parts
