"""How far the stems of a method depend on the sampling frequency of the recording."""

import math

import numpy as np
import scipy.fft

from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.signals import read_signals
from sfisep_core.evaluation.study import Samples
from sfisep_core.evaluation.systems import System, load
from sfisep_core.separation.methods import separate_signal
from sfisep_core.separation.settings import SeparationSettings

# Relative to the lower rate: within the pass band of the resampler, which ends at 0.456.
_BAND = 0.45


def equivariance_db(
    estimates: Samples, resampled: Samples, *, sample_rate: int, native_rate: int
) -> float:
    """Compare stems made at one rate with those made at the model's native rate.

    Args:
        estimates: Shape (source, channel, time), made at `sample_rate`.
        resampled: Same shape: the stems made at the native rate, resampled to this one.
        sample_rate: Hz.
        native_rate: Hz.

    Returns:
        Energy of the difference relative to that of the resampled stems, in dB, both up to 0.45 of
        the lower rate. -inf: no difference. nan: all resampled stems are silent.

    Raises:
        ConfigError: The shapes differ.

    Source: after K. Imamura, T. Nakamura, N. Takamune, K. Yatabe and H. Saruwatari, "Local
    Equivariance Error-Based Metrics for Evaluating Sampling-Frequency-Independent Property of
    Neural Network", EUSIPCO 2025, which compares features inside the network where this function
    compares outputs.
    """
    if estimates.shape != resampled.shape:
        msg = (
            f"equivariance: expected stems of one shape, got {estimates.shape} and "
            f"{resampled.shape}: cut both to the same samples"
        )
        raise ConfigError(msg)
    error = energy = 0.0
    n_fft = scipy.fft.next_fast_len(max(estimates.shape[-1], 1), real=True)
    bins = math.floor(_BAND * min(sample_rate, native_rate) / sample_rate * n_fft) + 1
    for y, r in zip(estimates, resampled, strict=True):  # one source at a time, to save memory
        reference = scipy.fft.rfft(r.astype(np.float64), n=n_fft)[..., :bins]
        difference = scipy.fft.rfft(y.astype(np.float64), n=n_fft)[..., :bins] - reference
        # All bins but the first also represent their negative frequency.
        error += _energy(difference) - _energy(difference[..., :1]) / 2
        energy += _energy(reference) - _energy(reference[..., :1]) / 2
    if energy == 0:
        return math.nan
    return 10 * math.log10(error / energy) if error > 0 else -math.inf


def _energy(spectrum: np.ndarray) -> float:
    return float(np.vdot(spectrum, spectrum).real)


# Stems of the last track, for its other rates.
_kept: dict[str, Samples] = {}


def native_stems(
    dataset: StemDataset,
    track: PreparedTrack,
    *,
    sources: tuple[str, ...],
    system: System,
    device: str,
) -> Samples:
    """Separate a track at the native rate of a system's model.

    Args:
        dataset: The split, of whole tracks.
        track: One of its tracks.
        sources: Names of the sources, in order.
        system: A system with a model.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        Shape (source, channel, time), at the native rate, in the order of the model's sources.

    Raises:
        SfisepError: The track cannot be read or separated.
    """
    assert system.model is not None
    key = repr((track.sha256, system.model, system.segment))
    if key not in _kept:
        model = load(system.model, device)
        rate = model.native_rate
        mixture = read_signals(dataset, track, sources=sources, sample_rate=rate).mixture
        settings = SeparationSettings(segment=system.segment)
        _kept.clear()
        stems = separate_signal(model, MemoryStore(mixture), sample_rate=rate, settings=settings)
        _kept[key] = read_all(stems)
    return _kept[key]
