"""Scores on the validation tracks during training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfisep_core.audio.resample import resample
from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.errors import DatasetError
from sfisep_core.foundation.float64 import float64_device
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.inference import side_by_side
from sfisep_core.separation.methods import separate_signal
from sfisep_core.separation.permutation import are_unnamed, match_estimates

_Scores = dict[int, dict[str, float]]

# A source counts in tracks where it has at least this share of the mixture's energy (-40 dB).
_ACTIVE = 1e-4
# Ratios are limited to this range. So a single silent estimate does not dominate the mean, nor does
# a source that plays alone and equals its mixture.
_LOWEST_DB, _HIGHEST_DB = -100.0, 40.0


@dataclass(frozen=True)
class ValidationScores:
    """Scores in dB by rate and source, each a mean over the tracks in which the source is active.

    Both ratios of a track are limited to -100 to 40 dB.

    Attributes:
        si_sdr: Improvement of the scale-invariant SDR over the mixture as estimate.
        snr: Signal-to-noise ratio of the estimate itself.
        counts: Number of tracks in which the source is active; sources without any are left out.
    """

    si_sdr: _Scores
    snr: _Scores
    counts: dict[int, dict[str, int]]

    @property
    def mean(self) -> float:
        """Mean SI-SDR improvement over rates and sources."""
        values = [value for scores in self.si_sdr.values() for value in scores.values()]
        return sum(values) / len(values)


def validate(
    model: SeparationModel,
    dataset: StemDataset,
    *,
    sample_rates: Sequence[int],
    seconds: float,
    max_tracks: int,
    rank: int = 0,
    world_size: int = 1,
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> ValidationScores:
    """Score a model on tracks, separated in windows as by `sfisep separate`.

    Tracks are distributed over the processes; all processes return the scores of all tracks. A
    source counts in tracks where its energy is above -40 dB of the mixture's. The estimates of
    unnamed sources are put in the order that matches the references best, for every track.

    Args:
        model: A model in evaluation mode.
        dataset: Validation split.
        sample_rates: Rates to score at, in Hz; tracks are resampled to them.
        seconds: Length of the excerpt from the middle of every track; 0 = all of it.
        max_tracks: Number of first tracks; 0 = all.
        rank: Index of this process.
        world_size: Number of processes.
        reduce: Sums a tensor over the processes.

    Returns:
        The scores.

    Raises:
        DatasetError: No source is active in any track, or a track cannot be read.
        AudioFileError: A stem cannot be read.
    """
    model, tracks = side_by_side(model), dataset.tracks[: max_tracks or None]
    # By rate and source: sums of both scores, and their number.
    sums = np.zeros((len(sample_rates), len(model.sources), 3))
    for track in tracks[rank::world_size]:
        stems = _read_stems(dataset, track, dataset.mixed_with(model.sources), seconds)
        for row, sample_rate in zip(sums, sample_rates, strict=True):
            row += _score_track(model, stems, track.sample_rate, sample_rate)
    device = next(model.parameters()).device
    totals = reduce(torch.from_numpy(sums).to(float64_device(device))).cpu().numpy()
    if not totals[..., 2].any():
        msg = (
            f"data set {dataset.folder}: expected music in the validation tracks, found silence in "
            f"all {len(tracks)}: set validation_tracks or validation_seconds higher, or prepare "
            "other tracks"
        )
        raise DatasetError(msg)
    si_sdr: _Scores = {rate: {} for rate in sample_rates}
    snr: _Scores = {rate: {} for rate in sample_rates}
    counts: dict[int, dict[str, int]] = {rate: {} for rate in sample_rates}
    for rate, of_rate in zip(sample_rates, totals.tolist(), strict=True):
        for source, (si_sdr_sum, snr_sum, count) in zip(model.sources, of_rate, strict=True):
            if count:
                si_sdr[rate][source] = round(si_sdr_sum / count, 3)
                snr[rate][source] = round(snr_sum / count, 3)
                counts[rate][source] = int(count)
    return ValidationScores(si_sdr, snr, counts)


def _read_stems(
    dataset: StemDataset, track: PreparedTrack, sources: Sequence[str], seconds: float
) -> npt.NDArray[np.float32]:
    """Read the middle of a track's stems, shape (source, channel, time)."""
    frames = round(seconds * track.sample_rate) or track.frames
    start = max(0, (track.frames - frames) // 2)
    stems = [dataset.read_whole(track, source)[:, start : start + frames] for source in sources]
    return np.stack(np.broadcast_arrays(*stems))  # mono stems become stereo


def _score_track(
    model: SeparationModel,
    stems: npt.NDArray[np.float32],
    stored_rate: int,
    sample_rate: int,
) -> npt.NDArray[np.float64]:
    """Compute SI-SDR improvement, SNR and 1, or zeros for a silent source, shape (source, 3).

    Stems after those of the model are only part of the mixture.
    """
    references = np.stack(
        [resample(stem, orig_rate=stored_rate, target_rate=sample_rate) for stem in stems]
    )
    mixture = references.sum(axis=0)
    references = references[: len(model.sources)]
    try:
        estimates = read_all(separate_signal(model, MemoryStore(mixture), sample_rate=sample_rate))
    except np.linalg.LinAlgError:  # from the gain fit of non-finite estimates
        estimates = np.full_like(references, np.nan)
    if are_unnamed(model.sources):
        estimates = estimates[match_estimates(estimates, references)]
    threshold = _ACTIVE * _energy(mixture)
    scores = np.zeros((len(references), 3))
    for row, estimate, reference in zip(scores, estimates, references, strict=True):
        if _energy(reference) > threshold:
            gain = _si_sdr(estimate, reference) - _si_sdr(mixture, reference)
            row[:] = gain, _snr(estimate, reference), 1
    return scores


def _si_sdr(estimate: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    e, s = estimate.astype(np.float64), reference.astype(np.float64)
    target = np.sum(e * s) / np.sum(s * s) * s
    return _ratio_db(_energy(target), _energy(e - target))


def _snr(estimate: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    reference = reference.astype(np.float64)
    return _ratio_db(_energy(reference), _energy(estimate - reference))


def _ratio_db(signal: float, noise: float) -> float:
    """Compute the limited ratio of two energies in dB; NaN is kept."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if signal == 0:
        return _LOWEST_DB
    if noise == 0:
        return _HIGHEST_DB
    return min(max(10 * math.log10(signal / noise), _LOWEST_DB), _HIGHEST_DB)


def _energy(signal: npt.NDArray[np.floating]) -> float:
    return float(np.sum(np.square(signal, dtype=np.float64)))
