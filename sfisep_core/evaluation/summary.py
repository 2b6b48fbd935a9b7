"""Summaries of scores over tracks: medians, means, bootstrap intervals, paired differences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

_Values = npt.NDArray[np.float64]

# One seed for every summary: the same scores give the same intervals.
_SEED = 20220909
_RESAMPLES = 2000
_NAN = float("nan")
_INTERVAL = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Summary:
    """One score over tracks.

    Attributes:
        median: Median over tracks; NaN where no track has the score.
        mean: Mean over tracks.
        low: Lower end of the 95 % interval of the median (percentile bootstrap over tracks).
        high: Its upper end.
        tracks: Tracks that have the score.
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
        low: Lower end of the 95 % interval of the mean (percentile bootstrap over tracks).
        high: Its upper end.
        p: Two-sided p of Wilcoxon's signed-rank test; NaN where it says nothing (fewer than two
            tracks, or no difference at all).
        ahead: Tracks in which the first system is better.
        tracks: Tracks that both have.
    """

    mean: float
    median: float
    low: float
    high: float
    p: float
    ahead: int
    tracks: int


def over_frames(frames: npt.ArrayLike) -> float:
    """Give the median over the frames that have a score, as museval does; NaN where none has.

    Infinite values count as missing, as in museval's files.
    """
    values = _finite(frames)
    return float(np.median(values)) if values.size else _NAN


def summarise(values: Iterable[float]) -> Summary:
    """Summarise one score of several tracks; what is not finite is left out."""
    found = _finite(list(values))
    if not found.size:
        return Summary(_NAN, _NAN, _NAN, _NAN, tracks=0)
    low, high = _bootstrap(found, np.median)
    return Summary(float(np.median(found)), float(found.mean()), low, high, tracks=int(found.size))


def compare(first: Mapping[str, float], second: Mapping[str, float]) -> Difference:
    """Compare one score of two systems, paired by track.

    Args:
        first: Scores by track.
        second: Those of the other system; tracks that only one has, or whose score is not finite,
            are left out.

    Returns:
        The difference first - second.
    """
    tracks = sorted(first.keys() & second.keys())
    differences = _finite([first[track] - second[track] for track in tracks])
    if not differences.size:
        return Difference(_NAN, _NAN, _NAN, _NAN, _NAN, ahead=0, tracks=0)
    low, high = _bootstrap(differences, np.mean)
    p = _NAN
    if differences.size > 1 and np.any(differences):
        p = float(stats.wilcoxon(differences).pvalue)
    return Difference(
        float(differences.mean()),
        float(np.median(differences)),
        low,
        high,
        p,
        ahead=int((differences > 0).sum()),
        tracks=int(differences.size),
    )


def _finite(values: npt.ArrayLike | Sequence[float]) -> _Values:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def _bootstrap(values: _Values, statistic: Any) -> tuple[float, float]:
    rng = np.random.default_rng(_SEED)
    drawn = values[rng.integers(values.size, size=(_RESAMPLES, values.size))]
    low, high = np.percentile(statistic(drawn, axis=1), _INTERVAL)
    return float(low), float(high)
