"""Summaries of scores over tracks: medians, means, bootstrap intervals, paired differences."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Values = npt.NDArray[np.float64]

# One seed for every summary: the same scores give the same intervals.
_SEED = 20220909
_RESAMPLES = 2000
_NAN = float("nan")
_HUGE = 1e9  # dB: above all finite scores
_INTERVAL = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Summary:
    """One score over tracks.

    Attributes:
        median: Median over tracks; NaN if no track has the score.
        mean: Mean over tracks.
        low: Lower end of the 95 % interval of the median (percentile bootstrap over tracks); NaN if
            fewer than two tracks have the score.
        high: Its upper end.
        tracks: Number of tracks that have the score.
    """

    median: float
    mean: float
    low: float
    high: float
    tracks: int


@dataclass(frozen=True)
class Difference:
    """One score of a system minus that of another, over the tracks that both have.

    Attributes:
        mean: Mean difference.
        median: Median difference.
        low: Lower end of the 95 % interval of the mean (percentile bootstrap over tracks); NaN for
            fewer than two tracks.
        high: Its upper end.
        p: Two-sided p value of Wilcoxon's signed-rank test; NaN where it is undefined (fewer than
            two tracks, or no difference at all).
        ahead: Number of tracks in which the first system is better.
        tracks: Number of tracks that both have.
    """

    mean: float
    median: float
    low: float
    high: float
    p: float
    ahead: int
    tracks: int


def over_frames(frames: npt.ArrayLike) -> float:
    """Compute the median over the frames that have a score, as museval does; NaN if none has.

    Infinite values count as missing, as in museval's files.
    """
    values = np.asarray(frames, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else _NAN


def summarise(values: Iterable[float]) -> Summary:
    """Summarise one score of several tracks.

    NaN is left out. Infinite scores are kept: a silent estimate's SI-SDR of -inf is the worst.
    """
    numbers = _numbers(list(values))
    if not numbers.size:
        return Summary(_NAN, _NAN, _NAN, _NAN, tracks=0)
    low, high = _bootstrap(numbers, _median)
    return Summary(
        float(_median(numbers)), float(_mean(numbers)), low, high, tracks=int(numbers.size)
    )


def compare(
    first: Mapping[str, float], second: Mapping[str, float], *, higher_is_better: bool = True
) -> Difference:
    """Compare one score of two systems, paired by track.

    Args:
        first: Scores by track.
        second: Scores of the other system; tracks that only one has, or whose difference is NaN,
            are left out.
        higher_is_better: Whether higher values of this score are better.

    Returns:
        The difference first - second.
    """
    tracks = sorted(first.keys() & second.keys())
    differences = _numbers([_difference(first[track], second[track]) for track in tracks])
    if not differences.size:
        return Difference(_NAN, _NAN, _NAN, _NAN, _NAN, ahead=0, tracks=0)
    low, high = _bootstrap(differences, _mean)
    p = _NAN
    if differences.size > 1 and np.any(differences):
        from scipy import stats  # slow to load, rarely needed

        p = float(stats.wilcoxon(np.clip(differences, -_HUGE, _HUGE)).pvalue)  # only ranks matter
    return Difference(
        float(_mean(differences)),
        float(_median(differences)),
        low,
        high,
        p,
        ahead=int((differences > 0 if higher_is_better else differences < 0).sum()),
        tracks=int(differences.size),
    )


def _difference(first: float, second: float) -> float:
    return 0.0 if first == second else first - second  # also for equal infinities


def _numbers(values: npt.ArrayLike) -> _Values:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def _mean(values: _Values) -> _Values:
    """Compute means along the last axis; NaN for infinities of both signs."""
    with np.errstate(invalid="ignore"):
        return np.asarray(values.mean(axis=-1))


def _median(values: _Values) -> _Values:
    """Compute medians along the last axis; NaN halfway between infinities of both signs."""
    ordered = np.sort(values, axis=-1)
    size = values.shape[-1]
    low, high = ordered[..., (size - 1) // 2], ordered[..., size // 2]
    with np.errstate(invalid="ignore"):
        return np.where(low == high, low, (low + high) / 2)


def _bootstrap(values: _Values, statistic: Callable[[_Values], _Values]) -> tuple[float, float]:
    if values.size < 2:  # the spread over tracks cannot be estimated from one track
        return _NAN, _NAN
    rng = np.random.default_rng(_SEED)
    drawn = values[rng.integers(values.size, size=(_RESAMPLES, values.size))]
    # Nearest value: interpolation between a number and infinity is undefined.
    statistics = _numbers(statistic(drawn))
    if not statistics.size:
        return _NAN, _NAN
    low, high = np.percentile(statistics, _INTERVAL, method="nearest")
    return float(low), float(high)
